//! Linear maps of few bits, made into floats when they are read: `[out, in]` in f32, every product rounded once.

use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::{
    Table,
    entry::{Coding, Entry},
};
use crate::model::{ModelError, packing::Packing};

/// The parts of a packed map beside its numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Packed {
    /// Eight-bit floats; scales of one tensor, of rows, or of blocks of these sizes.
    Fp8 { scale: Entry, block: [i64; 2] },
    /// Whole numbers along the inputs, with a zero point and a scale per group and output.
    Gptq { zeros: Entry, scales: Entry, groups: Option<Entry>, bits: u32, less_one: bool },
    /// The same along the outputs, in AWQ's order.
    Awq { zeros: Entry, scales: Entry },
    /// Signed bytes with a scale per row.
    Int8 { scale: Entry },
}

/// Where AWQ keeps the eight outputs of a word, by nibble from the lowest.
const AWQ_NIBBLE: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Puts the packed maps of a table in place of their parts.
pub(super) fn pack(tensors: &mut Table, packing: Packing) {
    let names: Vec<String> = tensors.keys().cloned().collect();
    for name in names {
        match packing {
            Packing::Fp8 { block } => fp8(tensors, &name, block),
            Packing::Int8 => int8(tensors, &name),
            Packing::Gptq { .. } | Packing::Awq => words(tensors, &name, packing),
        };
    }
}

/// `X.weight` and `X.weight_scale_inv` or `X.weight_scale`, which both multiply.
fn fp8(tensors: &mut Table, name: &str, block: Option<[i64; 2]>) -> Option<()> {
    let entry = tensors.get(name).filter(|e| e.coding == Coding::Unknown("F8_E4M3".into()))?;
    let [rows, columns] = entry.shape[..] else { return None };
    let scale_name = ["_scale_inv", "_scale"]
        .iter()
        .map(|end| format!("{name}{end}"))
        .find(|n| tensors.contains_key(n))?;
    let scale = tensors.get(&scale_name)?.clone();
    let block = match (scale.shape.iter().product::<i64>(), block) {
        (1, _) => [rows, columns],
        (n, None) if n == rows => [1, columns],
        (n, Some([r, c])) if n == blocks(rows, r) * blocks(columns, c) => [r, c],
        _ => return None,
    };
    tensors.remove(&scale_name);
    tensors.get_mut(name)?.coding = Coding::Packed(Box::new(Packed::Fp8 { scale, block }));
    Some(())
}

/// Blocks of a side, the last of which may be smaller.
fn blocks(n: i64, size: i64) -> i64 {
    (n + size - 1) / size
}

/// `X.weight` and `X.SCB`.
fn int8(tensors: &mut Table, name: &str) -> Option<()> {
    let base = name.strip_suffix(".weight")?;
    let entry = tensors.get(name).filter(|e| e.coding == Coding::Plain(Kind::Int8) && e.shape.len() == 2)?;
    let scale = tensors.get(&format!("{base}.SCB")).filter(|s| s.shape == entry.shape[..1])?.clone();
    tensors.remove(&format!("{base}.SCB"));
    tensors.remove(&format!("{base}.weight_format"));
    tensors.get_mut(name)?.coding = Coding::Packed(Box::new(Packed::Int8 { scale }));
    Some(())
}

/// `X.qweight`, `X.qzeros`, `X.scales` and perhaps `X.g_idx`, which become `X.weight`.
fn words(tensors: &mut Table, name: &str, packing: Packing) -> Option<()> {
    let base = name.strip_suffix(".qweight")?;
    let is_int = |entry: &&Entry| entry.coding == Coding::Plain(Kind::Int);
    let part = |end: &str| tensors.get(&format!("{base}.{end}")).cloned();
    let entry = tensors.get(name).filter(is_int)?.clone();
    let zeros = part("qzeros").filter(|zeros| is_int(&zeros))?;
    let (scales, groups) = (part("scales")?, part("g_idx").filter(|g| is_int(&g)));
    let ([a, b], [n, outputs]) =
        (<[i64; 2]>::try_from(&entry.shape[..]).ok()?, <[i64; 2]>::try_from(&scales.shape[..]).ok()?);
    let (shape, per_word, packed) = match packing {
        Packing::Gptq { bits, less_one } => {
            let per_word = i64::from(32 / bits);
            let shape = vec![b, a * per_word];
            (shape, per_word, Packed::Gptq { zeros: zeros.clone(), scales, groups, bits, less_one })
        }
        _ => (vec![b * 8, a], 8, Packed::Awq { zeros: zeros.clone(), scales }),
    };
    let fits = shape[0] == outputs && zeros.shape == [n, outputs / per_word] && n > 0 && shape[1] % n == 0;
    if !fits {
        return None;
    }
    for end in ["qweight", "qzeros", "scales", "g_idx"] {
        tensors.remove(&format!("{base}.{end}"));
    }
    let coding = Coding::Packed(Box::new(packed));
    tensors.insert(format!("{base}.weight"), Entry { shape, coding, ..entry });
    Some(())
}

impl Packed {
    /// What the floats would be stored as.
    pub(super) fn float(&self) -> Kind {
        if let Self::Fp8 { .. } = self { Kind::BFloat16 } else { Kind::Half }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Fp8 { .. } => "F8_E4M3".into(),
            Self::Gptq { bits, .. } => format!("GPTQ {bits} bits"),
            Self::Awq { .. } => "AWQ 4 bits".into(),
            Self::Int8 { .. } => "INT8".into(),
        }
    }

    /// The floats of `entry`, whose other parts these are.
    pub(super) fn read(&self, name: &str, entry: &Entry) -> Result<Tensor, ModelError> {
        let (rows, columns) = (entry.shape[0] as usize, entry.shape[1] as usize);
        let bytes = entry.bytes()?;
        let mut out = vec![0_f32; rows * columns];
        let by_row = out.par_chunks_mut(columns.max(1)).enumerate();
        match self {
            Self::Fp8 { scale, block } => {
                let (scale, table) = (floats(scale, name)?, eight_bit_floats());
                let [r, c] = block.map(|n| n as usize);
                let across = columns.div_ceil(c);
                by_row.for_each(|(row, out)| {
                    for (column, (out, byte)) in out.iter_mut().zip(&bytes[row * columns..]).enumerate() {
                        *out = table[usize::from(*byte)] * scale[row / r * across + column / c];
                    }
                });
            }
            Self::Int8 { scale } => {
                let scale = floats(scale, name)?;
                by_row.for_each(|(row, out)| {
                    for (out, byte) in out.iter_mut().zip(&bytes[row * columns..]) {
                        *out = f32::from(byte.cast_signed()) * scale[row] / 127.0;
                    }
                });
            }
            Self::Gptq { zeros, scales, groups, bits, less_one } => {
                let (parts, more) = (Groups::read(zeros, scales, name)?, u32::from(*less_one));
                let group_of = group_numbers(groups.as_ref(), columns, parts.count, name)?;
                let (per_word, mask) = ((32 / bits) as usize, (1_u32 << bits) - 1);
                let number = |word: u32, place: usize| word >> (bits * (place % per_word) as u32) & mask;
                by_row.for_each(|(row, out)| {
                    for (column, out) in out.iter_mut().enumerate() {
                        let group = group_of[column];
                        let q = number(word(&bytes, column / per_word * rows + row), column);
                        let zero = number(parts.zero(group, row / per_word), row) + more;
                        *out = parts.scale(group, row) * (q as f32 - zero as f32);
                    }
                });
            }
            Self::Awq { zeros, scales } => {
                let parts = Groups::read(zeros, scales, name)?;
                let per_group = columns / parts.count;
                by_row.for_each(|(row, out)| {
                    let nibble = |word: u32| word >> (4 * AWQ_NIBBLE[row % 8]) & 15;
                    for (column, out) in out.iter_mut().enumerate() {
                        let group = column / per_group;
                        let q = nibble(word(&bytes, column * (rows / 8) + row / 8));
                        let zero = nibble(parts.zero(group, row / 8));
                        *out = (q as f32 - zero as f32) * parts.scale(group, row);
                    }
                });
            }
        }
        Ok(Tensor::f_from_slice(&out)?.f_view(entry.shape.as_slice())?)
    }
}

/// Zero points and scales by group.
struct Groups {
    zeros: memmap2::Mmap,
    scales: Vec<f32>,
    count: usize,
    outputs: usize,
    words: usize,
}

impl Groups {
    fn read(zeros: &Entry, scales: &Entry, name: &str) -> Result<Self, ModelError> {
        let [count, outputs] = [0, 1].map(|i| scales.shape[i] as usize);
        Ok(Self {
            words: zeros.shape[1] as usize,
            zeros: zeros.bytes()?,
            scales: floats(scales, name)?,
            count,
            outputs,
        })
    }

    fn zero(&self, group: usize, at: usize) -> u32 {
        word(&self.zeros, group * self.words + at)
    }

    fn scale(&self, group: usize, output: usize) -> f32 {
        self.scales[group * self.outputs + output]
    }
}

/// The group of every input: as the file says, else in order.
fn group_numbers(
    groups: Option<&Entry>,
    inputs: usize,
    count: usize,
    name: &str,
) -> Result<Vec<usize>, ModelError> {
    let Some(groups) = groups else { return Ok((0..inputs).map(|i| i * count / inputs).collect()) };
    let bytes = groups.bytes()?;
    let numbers: Option<Vec<usize>> =
        (0..bytes.len() / 4).map(|i| Some(word(&bytes, i) as usize).filter(|group| *group < count)).collect();
    numbers.filter(|numbers| numbers.len() == inputs).ok_or_else(|| ModelError::Corrupt {
        path: groups.file.clone(),
        reason: format!("the groups of `{name}` do not fit its {inputs} inputs and {count} groups"),
    })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[4 * at + i]))
}

fn floats(entry: &Entry, name: &str) -> Result<Vec<f32>, ModelError> {
    let tensor = entry.read(name)?.f_to_kind(Kind::Float)?.f_flatten(0, -1)?;
    Ok(Vec::<f32>::try_from(&tensor)?)
}

/// The 256 numbers of `float8_e4m3fn`: a sign, four bits of exponent, three of mantissa; no infinity.
fn eight_bit_floats() -> [f32; 256] {
    std::array::from_fn(|byte| {
        let (exponent, mantissa) = ((byte >> 3 & 15) as i32, (byte & 7) as f32);
        let size = match (exponent, byte & 7) {
            (15, 7) => f32::NAN,
            (0, _) => mantissa * 2_f32.powi(-9),
            _ => (1.0 + mantissa / 8.0) * 2_f32.powi(exponent - 7),
        };
        if byte & 128 == 0 { size } else { -size }
    })
}
