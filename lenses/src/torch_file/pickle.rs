//! The opcodes that `torch.save` writes for a dictionary of tensors, numbers and lists (pickle protocol 2), and the names
//! it may use.

use tch::Kind;

use super::TorchFileError;

/// One step of the pickle's program.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Op<'a> {
    Global(Global),
    Str(&'a str),
    Int(i64),
    Float(f64),
    Bool(bool),
    None,
    EmptyDict,
    EmptyList,
    EmptyTuple,
    Mark,
    /// Makes a tuple of everything since the last mark.
    Tuple,
    /// Makes a tuple of the last one, two or three values.
    TupleOf(usize),
    /// Remembers the last value under a number.
    Put(u32),
    Get(u32),
    /// Calls the function below the last value with it.
    Reduce,
    /// Turns a description of a storage into it.
    PersId,
    /// Adds the last value to the list below it.
    Append,
    /// Adds everything since the last mark to the list below it.
    Appends,
    SetItem,
    /// Adds everything since the last mark to the dictionary below it.
    SetItems,
    /// Sets attributes.
    Build,
    Stop,
}

/// The only names that may appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

impl Global {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "collections.OrderedDict" => Self::OrderedDict,
            "torch._utils._rebuild_tensor_v2" => Self::RebuildTensor,
            "torch._utils._rebuild_parameter" => Self::RebuildParameter,
            "torch.FloatStorage" => Self::Storage(Kind::Float),
            "torch.HalfStorage" => Self::Storage(Kind::Half),
            "torch.BFloat16Storage" => Self::Storage(Kind::BFloat16),
            "torch.DoubleStorage" => Self::Storage(Kind::Double),
            // Checkpoints hold masks and positions beside their weights.
            "torch.LongStorage" => Self::Storage(Kind::Int64),
            "torch.IntStorage" => Self::Storage(Kind::Int),
            "torch.ShortStorage" => Self::Storage(Kind::Int16),
            "torch.CharStorage" => Self::Storage(Kind::Int8),
            "torch.ByteStorage" => Self::Storage(Kind::Uint8),
            "torch.BoolStorage" => Self::Storage(Kind::Bool),
            _ => return None,
        })
    }
}

/// Cuts the bytes of a pickle into opcodes.
#[derive(Debug)]
pub(super) struct Ops<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Ops<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// An error at the current byte.
    pub(super) fn error(&self, reason: impl Into<String>) -> TorchFileError {
        TorchFileError::Pickle { at: self.at, reason: reason.into() }
    }

    /// Whether everything was read.
    pub(super) fn at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The two bytes every pickle of protocol 2 begins with.
    pub(super) fn header(&mut self) -> Result<(), TorchFileError> {
        match self.array()? {
            [0x80, 2] => Ok(()),
            [0x80, other] => Err(self.error(format!("protocol {other}: torch.save writes 2"))),
            _ => Err(self.error("not a pickle")),
        }
    }

    /// The next opcode with its argument.
    pub(super) fn op(&mut self) -> Result<Op<'a>, TorchFileError> {
        let [code] = self.array()?;
        Ok(match code {
            b'c' => self.global()?,
            b'X' => {
                let len = u32::from_le_bytes(self.array()?) as usize;
                Op::Str(self.text(len)?)
            }
            b'K' => Op::Int(u8::from_le_bytes(self.array()?).into()),
            b'M' => Op::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Op::Int(i32::from_le_bytes(self.array()?).into()),
            0x8a => Op::Int(self.long()?),
            b'G' => Op::Float(f64::from_be_bytes(self.array()?)),
            0x88 => Op::Bool(true),
            0x89 => Op::Bool(false),
            b'N' => Op::None,
            b'}' => Op::EmptyDict,
            b']' => Op::EmptyList,
            b'a' => Op::Append,
            b'e' => Op::Appends,
            b')' => Op::EmptyTuple,
            b'(' => Op::Mark,
            b't' => Op::Tuple,
            0x85..=0x87 => Op::TupleOf(usize::from(code - 0x84)),
            b'q' => Op::Put(u8::from_le_bytes(self.array()?).into()),
            b'r' => Op::Put(u32::from_le_bytes(self.array()?)),
            b'h' => Op::Get(u8::from_le_bytes(self.array()?).into()),
            b'j' => Op::Get(u32::from_le_bytes(self.array()?)),
            b'R' => Op::Reduce,
            b'Q' => Op::PersId,
            b's' => Op::SetItem,
            b'u' => Op::SetItems,
            b'b' => Op::Build,
            b'.' => Op::Stop,
            other => {
                return Err(self.error(format!("opcode 0x{other:02x} is not allowed in a file of tensors")));
            }
        })
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], TorchFileError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or_else(|| self.error("ends in the middle"))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TorchFileError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn text(&mut self, len: usize) -> Result<&'a str, TorchFileError> {
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|_| self.error("text that is not UTF-8"))
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, TorchFileError> {
        let end = self.bytes[self.at..].iter().position(|b| *b == b'\n');
        let line = self.text(end.ok_or_else(|| self.error("ends in the middle"))?)?;
        self.at += 1;
        Ok(line)
    }

    fn global(&mut self) -> Result<Op<'a>, TorchFileError> {
        let name = format!("{}.{}", self.line()?, self.line()?);
        Global::parse(&name).map(Op::Global).ok_or_else(|| {
            TorchFileError::Global(name.chars().filter(|c| !c.is_control()).take(100).collect())
        })
    }

    /// Up to eight bytes, two's complement.
    fn long(&mut self) -> Result<i64, TorchFileError> {
        let [len] = self.array()?;
        if len > 8 {
            return Err(self.error("a number beyond 64 bits"));
        }
        let bytes = self.take(len.into())?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = if negative { [0xff; 8] } else { [0; 8] };
        wide[..bytes.len()].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(wide))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_twos_complement() {
        for (bytes, want) in [
            (&b"K\xff"[..], 255),
            (b"M\x00\x80", 0x8000),
            (b"J\xff\xff\xff\xff", -1),
            (b"\x8a\x00", 0),
            (b"\x8a\x01\xff", -1),
            (b"\x8a\x02\xff\x00", 255),
            (b"\x8a\x05\x00\x00\x00\x00\x01", 1 << 32),
        ] {
            assert_eq!(Ops::new(bytes).op().unwrap(), Op::Int(want));
        }
        assert_eq!(
            Ops::new(b"\x8a\x09\0\0\0\0\0\0\0\0\0").op().unwrap_err().to_string(),
            "pickle, byte 2: a number beyond 64 bits"
        );
    }

    #[test]
    fn a_foreign_name_is_refused_by_its_name() {
        let message = Ops::new(b"cposix\nsystem\n").op().unwrap_err().to_string();
        assert_eq!(message, "global `posix.system` is not allowed in a file of tensors");
    }
}
