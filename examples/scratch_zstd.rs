//! scratch
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, Strategy};
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    s.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}
fn split4(numbers: &[u8], planes: &mut [u8]) {
    let count = numbers.len() / 4;
    for (b, block) in numbers.chunks(2048 * 4).enumerate() {
        for j in 0..4 {
            let plane = &mut planes[j * count + b * 2048..][..block.len() / 4];
            let numbers = block.as_chunks::<4>().0;
            plane.iter_mut().zip(numbers).for_each(|(p, n)| *p = (u32::from_le_bytes(*n) >> (8 * j)) as u8);
        }
    }
}
#[inline(always)]
fn plane<const J: usize>(block: &[[u8; 4]], plane: &mut [u8]) {
    plane.iter_mut().zip(block).for_each(|(p, n)| *p = n[J]);
}
fn split4b(numbers: &[u8], planes: &mut [u8]) {
    let count = numbers.len() / 4;
    for (b, block) in numbers.chunks(2048 * 4).enumerate() {
        let n = block.len() / 4;
        let blk = block.as_chunks::<4>().0;
        plane::<0>(blk, &mut planes[b * 2048..][..n]);
        plane::<1>(blk, &mut planes[count + b * 2048..][..n]);
        plane::<2>(blk, &mut planes[2 * count + b * 2048..][..n]);
        plane::<3>(blk, &mut planes[3 * count + b * 2048..][..n]);
    }
}
fn split4c(numbers: &[u8], planes: &mut [u8]) {
    let count = numbers.len() / 4;
    let (p0, r) = planes.split_at_mut(count);
    let (p1, r) = r.split_at_mut(count);
    let (p2, p3) = r.split_at_mut(count);
    for ((((n, a), b), c), d) in numbers.as_chunks::<4>().0.iter().zip(p0).zip(p1).zip(p2).zip(p3) {
        [*a, *b, *c, *d] = *n;
    }
}
fn split4d(numbers: &[u8], planes: &mut [u8]) {
    // 8x8 byte transposition by u64 arithmetic: 8 numbers at a time
    let count = numbers.len() / 4;
    let (p0, r) = planes.split_at_mut(count);
    let (p1, r) = r.split_at_mut(count);
    let (p2, p3) = r.split_at_mut(count);
    let it = numbers.as_chunks::<16>().0.iter().zip(p0.as_chunks_mut::<4>().0).zip(p1.as_chunks_mut::<4>().0).zip(p2.as_chunks_mut::<4>().0).zip(p3.as_chunks_mut::<4>().0);
    for ((((n, a), b), c), d) in it {
        *a = [n[0], n[4], n[8], n[12]];
        *b = [n[1], n[5], n[9], n[13]];
        *c = [n[2], n[6], n[10], n[14]];
        *d = [n[3], n[7], n[11], n[15]];
    }
}
fn main() {
    let f = std::fs::read(std::env::args().nth(1).unwrap()).unwrap();
    let size: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let raw = &f[128..128 + (48 << 20)];
    let page = (1 << 20) / (768 * size) * 768 * size;
    let mut planes = vec![0u8; page];
    let mbs = raw.len() as f64 / 1e6;
    if size == 4 {
        for (name, s) in [("shift", split4 as fn(&[u8], &mut [u8])), ("const", split4b), ("one", split4c), ("quad", split4d)] {
            let t = cpu();
            for p in raw.chunks_exact(page) { s(p, &mut planes); }
            println!("split {name} {:.0} MB/s", mbs / (cpu() - t));
        }
    }
    let t = cpu();
    println!("xxh {}", raw.chunks_exact(page).map(|p| layerscope::run::hash_bytes(p)).fold(0, |a, b| a ^ b));
    println!("xxh {:.0} MB/s", mbs / (cpu() - t));
    let mut all = Vec::new();
    for p in raw.chunks_exact(page) {
        let count = p.len() / size;
        let mut q = vec![0; p.len()];
        for i in 0..count { for j in 0..size { q[j * count + i] = p[i * size + j]; } }
        all.push(q);
    }
    let mut out = vec![0u8; page * 2];
    let mut run = |name: &str, c: &mut Compressor<'_>| {
        let t = cpu();
        let mut n = 0;
        for p in &all { n += c.compress_to_buffer(p, &mut out[..]).unwrap(); }
        println!("{name:30} {:6.0} MB/s {:.2} %", mbs / (cpu() - t), 100.0 * n as f64 / mbs / 1e6);
    };
    for level in [1, 2, 3, -1, -5] { run(&format!("level {level}"), &mut Compressor::new(level).unwrap()); }
    for (hl, mm, tl, wl, st) in [(6, 7, 1, 10, Strategy::ZSTD_fast), (6,7,0,17,Strategy::ZSTD_fast),(6,7,0,12,Strategy::ZSTD_fast),(10,7,0,17,Strategy::ZSTD_fast),(14,7,0,19,Strategy::ZSTD_fast), (6,7,0,17,Strategy::ZSTD_dfast),(6,7,64,17,Strategy::ZSTD_dfast)] {
        let mut c = Compressor::new(1).unwrap();
        c.set_parameter(CParameter::HashLog(hl)).unwrap();
        c.set_parameter(CParameter::MinMatch(mm)).unwrap();
        c.set_parameter(CParameter::TargetLength(tl)).unwrap();
        c.set_parameter(CParameter::WindowLog(wl)).unwrap();
        c.set_parameter(CParameter::Strategy(st)).unwrap();
        run(&format!("hash {hl} min {mm} target {tl} win {wl} {st:?}"), &mut c);
    }
    // per plane
    for j in 0..size {
        let mut c = Compressor::new(1).unwrap();
        let t = cpu(); let mut n = 0; let mut tot = 0;
        for p in &all { let k = p.len() / size; tot += k; n += c.compress_to_buffer(&p[j * k..(j + 1) * k], &mut out[..]).unwrap(); }
        println!("plane {j} level 1: {:6.0} MB/s {:.2} %", tot as f64 / 1e6 / (cpu() - t), 100.0 * n as f64 / tot as f64);
    }
}
