//! The bytes of a head, read one after another.

use super::{Meta, TensorInfo};

/// Lists in lists: no file has any.
const DEEPEST: usize = 2;
/// Dimensions of a tensor.
const MOST_DIMS: usize = 4;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next byte is.
    pub(super) fn at(&self) -> u64 {
        self.at as u64
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes[self.at..].get(..len);
        self.at += taken.map_or(0, <[u8]>::len);
        taken.ok_or_else(|| format!("cut short: byte {} and {len} more of {}", self.at, self.bytes.len()))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// How many things of `least` bytes and more come: no more than there is room for.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, String> {
        let n = self.u64()?;
        let room = (self.bytes.len() - self.at) / least.max(1);
        usize::try_from(n)
            .ok()
            .filter(|n| *n <= room)
            .ok_or_else(|| format!("cut short: {n} entries do not fit the file"))
    }

    pub(super) fn text(&mut self) -> Result<String, String> {
        let len = self.count(1)?;
        let bytes = self.take(len)?;
        // Pieces of a vocabulary can be halves of characters; no key or name is.
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// A value of the type `kind`.
    pub(super) fn value(&mut self, kind: u32, depth: usize) -> Result<Meta, String> {
        Ok(match kind {
            0 => Meta::Int(u8::from_le_bytes(self.array()?).into()),
            1 => Meta::Int(i8::from_le_bytes(self.array()?).into()),
            2 => Meta::Int(u16::from_le_bytes(self.array()?).into()),
            3 => Meta::Int(i16::from_le_bytes(self.array()?).into()),
            4 => Meta::Int(self.u32()?.into()),
            5 => Meta::Int(i32::from_le_bytes(self.array()?).into()),
            6 => Meta::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Meta::Bool(self.array::<1>()? != [0]),
            8 => Meta::Text(self.text()?),
            9 if depth < DEEPEST => {
                let kind = self.u32()?;
                let n = self.count(1)?;
                Meta::List((0..n).map(|_| self.value(kind, depth + 1)).collect::<Result<_, _>>()?)
            }
            10 => Meta::Int(i64::try_from(self.u64()?).map_err(|_| "a number beyond 63 bits")?),
            11 => Meta::Int(i64::from_le_bytes(self.array()?)),
            12 => Meta::Float(f64::from_le_bytes(self.array()?)),
            other => return Err(format!("a value of type {other}, which GGUF does not have")),
        })
    }

    pub(super) fn tensor(&mut self) -> Result<TensorInfo, String> {
        let name = self.text()?;
        let dims = self.u32()? as usize;
        if dims > MOST_DIMS {
            return Err(format!("tensor {name:?} with {dims} dimensions"));
        }
        let dim = |n: u64| i64::try_from(n).ok().filter(|n| *n < 1 << 40);
        let mut shape = Vec::new();
        for _ in 0..dims {
            shape.push(dim(self.u64()?).ok_or_else(|| format!("tensor {name:?} with a huge dimension"))?);
        }
        shape.reverse();
        Ok(TensorInfo { name, shape, kind: self.u32()?, offset: self.u64()? })
    }
}
