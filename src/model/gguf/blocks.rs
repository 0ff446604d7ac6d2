//! Blocks of few bits to floats, as ggml's own code has it: in f32, every product and every sum rounded once.

use half::f16;

/// A way in which llama.cpp stores numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub(in crate::model) enum Block {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl Block {
    /// Of the type's number in a file.
    pub(in crate::model) fn of(kind: u32) -> Option<Self> {
        Some(match kind {
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2_K,
            11 => Self::Q3_K,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            _ => return None,
        })
    }

    /// Its name.
    pub(in crate::model) fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2_K => "Q2_K",
            Self::Q3_K => "Q3_K",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
        }
    }

    /// Numbers in a block, and its bytes.
    pub(in crate::model) fn size(self) -> (usize, usize) {
        match self {
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q2_K => (256, 84),
            Self::Q3_K => (256, 110),
            Self::Q4_K => (256, 144),
            Self::Q5_K => (256, 176),
            Self::Q6_K => (256, 210),
        }
    }

    /// The numbers of whole blocks; `out` has room for as many.
    pub(in crate::model) fn dequantise(self, bytes: &[u8], out: &mut [f32]) {
        let (numbers, size) = self.size();
        let one = match self {
            Self::Q4_0 => q4_0,
            Self::Q4_1 => q4_1,
            Self::Q5_0 => q5_0,
            Self::Q5_1 => q5_1,
            Self::Q8_0 => q8_0,
            Self::Q2_K => q2_k,
            Self::Q3_K => q3_k,
            Self::Q4_K => q4_k,
            Self::Q5_K => q5_k,
            Self::Q6_K => q6_k,
        };
        for (block, out) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(numbers)) {
            one(block, out);
        }
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Low halves of all bytes, then high halves.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|b| b & 15).chain(bytes.iter().map(|b| b >> 4))
}

fn fill(out: &mut [f32], numbers: impl Iterator<Item = f32>) {
    out.iter_mut().zip(numbers).for_each(|(out, number)| *out = number);
}

fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half(block);
    fill(out, nibbles(&block[2..]).map(|q| d * (f32::from(q) - 8.0)));
}

fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half(block), half(&block[2..]));
    fill(out, nibbles(&block[4..]).map(|q| d * f32::from(q) + m));
}

/// The fifth bits of 32 numbers.
fn fifth(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (0..32).map(move |i| ((bits >> i & 1) as u8) << 4)
}

fn q5_0(block: &[u8], out: &mut [f32]) {
    let d = half(block);
    fill(out, nibbles(&block[6..]).zip(fifth(&block[2..])).map(|(q, high)| d * (f32::from(q | high) - 16.0)));
}

fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half(block), half(&block[2..]));
    fill(out, nibbles(&block[8..]).zip(fifth(&block[4..])).map(|(q, high)| d * f32::from(q | high) + m));
}

fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half(block);
    fill(out, block[2..].iter().map(|q| f32::from(q.cast_signed()) * d));
}

/// Two bits of every byte of each 32, four times.
fn pairs_of_bits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.chunks_exact(32).flat_map(|run| {
        [0, 2, 4, 6].into_iter().flat_map(move |shift| run.iter().map(move |b| b >> shift & 3))
    })
}

fn q2_k(block: &[u8], out: &mut [f32]) {
    let (scales, qs) = (&block[..16], &block[16..80]);
    let (d, dmin) = (half(&block[80..]), half(&block[82..]));
    let numbers = pairs_of_bits(qs).enumerate().map(|(i, q)| {
        let scale = scales[i / 16];
        (d * f32::from(scale & 15)) * f32::from(q) - dmin * f32::from(scale >> 4)
    });
    fill(out, numbers);
}

fn q3_k(block: &[u8], out: &mut [f32]) {
    let (mask, qs, packed) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half(&block[108..]);
    let scales: [f32; 16] = std::array::from_fn(|i| {
        let low = packed[i % 8] >> (4 * (i / 8)) & 15;
        let high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
        d * (f32::from(low | high << 4) - 32.0)
    });
    let numbers = pairs_of_bits(qs).enumerate().map(|(i, q)| {
        // A bit that is not set takes four off.
        let four = if mask[i % 32] >> (i / 32) & 1 == 0 { 4.0 } else { 0.0 };
        scales[i / 16] * (f32::from(q) - four)
    });
    fill(out, numbers);
}

/// Scales and minima of eight runs, six bits each.
fn scales_and_minima(packed: &[u8]) -> [(f32, f32); 8] {
    std::array::from_fn(|i| {
        let (scale, min) = if i < 4 {
            (packed[i] & 63, packed[4 + i] & 63)
        } else {
            let low = packed[4 + i];
            (low & 15 | packed[i - 4] >> 2 & 0x30, low >> 4 | packed[i] >> 2 & 0x30)
        };
        (scale.into(), min.into())
    })
}

/// Low halves of each 32 bytes, then their high halves.
fn nibbles_of_runs(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.chunks_exact(32).flat_map(nibbles)
}

fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half(block), half(&block[2..]));
    let runs = scales_and_minima(&block[4..16]).map(|(scale, min)| (d * scale, dmin * min));
    let numbers = nibbles_of_runs(&block[16..])
        .enumerate()
        .map(|(i, q)| runs[i / 32].0 * f32::from(q) - runs[i / 32].1);
    fill(out, numbers);
}

fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin, high) = (half(block), half(&block[2..]), &block[16..48]);
    let runs = scales_and_minima(&block[4..16]).map(|(scale, min)| (d * scale, dmin * min));
    let numbers = nibbles_of_runs(&block[48..]).enumerate().map(|(i, q)| {
        let q = q | (high[i % 32] >> (i / 32) & 1) << 4;
        runs[i / 32].0 * f32::from(q) - runs[i / 32].1
    });
    fill(out, numbers);
}

fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half(&block[208..]);
    let low = low.chunks_exact(64).flat_map(nibbles);
    let numbers = low.zip(pairs_of_bits(high)).enumerate().map(|(i, (low, high))| {
        (d * f32::from(scales[i / 16].cast_signed())) * (f32::from(low | high << 4) - 32.0)
    });
    fill(out, numbers);
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    /// Random blocks, and what llama.cpp's own package makes of them, bit for bit.
    #[test]
    fn floats_are_those_of_the_peer() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/gguf/blocks.safetensors");
        let file = std::fs::read(path).unwrap();
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let mut kinds = 0;
        for block in (0..64).filter_map(Block::of) {
            let tensor = |part: &str| tensors.tensor(&format!("{}.{part}", block.name())).unwrap();
            let (bytes, floats) = (tensor("bytes"), tensor("floats"));
            assert_eq!((floats.shape()[1], bytes.shape()[1]), block.size());
            let want: Vec<u32> =
                floats.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            let mut got = vec![0.0; want.len()];
            block.dequantise(bytes.data(), &mut got);
            // A zero of either sign is the same weight.
            let bits = |x: f32| if x == 0.0 { 0 } else { x.to_bits() };
            let got: Vec<u32> = got.into_iter().map(bits).collect();
            let want: Vec<u32> = want.into_iter().map(|x| bits(f32::from_bits(x))).collect();
            assert_eq!(got, want, "{}", block.name());
            kinds += 1;
        }
        assert_eq!(kinds, 10);
    }
}
