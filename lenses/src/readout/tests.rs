use super::*;
use crate::{Norm, NormKind, noise::noise};

const BOTH: [Precision; 2] = [Precision::Exact, Precision::Fast];

/// A head whose logits spread like a model's: standard deviation 2 to 3, times `scale`.
struct Case {
    rows: i64,
    d: i64,
    vocab: i64,
    bias: bool,
    cap: Option<f64>,
    /// Times this.
    scale: f64,
    /// And moved by this, all logits of all rows alike.
    shift: f64,
}

impl Case {
    const fn of(rows: i64, d: i64, vocab: i64) -> Self {
        Self { rows, d, vocab, bias: false, cap: None, scale: 1.0, shift: 0.0 }
    }

    fn unembed(&self) -> Unembed {
        // A first dimension that is the same in all states carries the shift of the rows of W.
        let gain = noise(1, &[self.d]).abs() * 0.5 + 0.6;
        let norm = Norm::new(NormKind::Layer, Some(gain.shallow_clone()), Some(gain.zeros_like()), 1e-5);
        let weight = noise(2, &[self.vocab, self.d]) * (2.5 / (self.d as f64).sqrt() * self.scale);
        let half = self.shift * if self.bias { 0.5 } else { 1.0 };
        let direction = self.states().mean_dim(0, false, Kind::Float);
        let direction = norm.forward(&direction.unsqueeze(0)).unwrap().squeeze_dim(0);
        let square = direction.square().sum(Kind::Float);
        let weight = weight + (direction / square * half).unsqueeze(0);
        let bias = self.bias.then(|| noise(3, &[self.vocab]) * self.scale + half);
        Unembed::new(norm, weight, bias, self.cap).unwrap()
    }

    fn states(&self) -> Tensor {
        noise(4, &[self.rows, self.d]) * 2.0 + noise(5, &[self.d]) * 1.5
    }

    fn build(&self, precision: Precision) -> (Readout, Tensor) {
        let readout = Readout::new(&self.unembed(), self.vocab as usize, precision, 2).unwrap();
        let n = readout.normalize(&self.states()).unwrap();
        (readout, n)
    }
}

/// Logits in f64 of the model's own head.
fn dense(readout: &Readout, n: &Tensor) -> Tensor {
    let (unembed, vocab) = (readout.unembed(), readout.vocab() as i64);
    let wide = |t: &Tensor| t.narrow(0, 0, vocab).to_kind(Kind::Double);
    let mut z = n.to_kind(Kind::Double).matmul(&wide(unembed.weight()).tr());
    if let Some(bias) = unembed.bias() {
        z += wide(bias);
    }
    match unembed.soft_cap() {
        Some(cap) => (z / cap).tanh() * cap,
        None => z,
    }
}

/// What a product in f32 may be off by: `Σ |n_i w_i|`, the largest there is, times a few units in the last place.
fn rounding(readout: &Readout, n: &Tensor) -> f64 {
    let sizes = n.abs().matmul(&readout.weight().abs().tr()).max().double_value(&[]);
    let bias = readout.bias().map_or(0.0, |b| b.abs().max().double_value(&[]));
    4.0 * f64::from(f32::EPSILON) * (sizes + bias + 1.0)
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

fn host(t: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(t.to_kind(Kind::Double).contiguous().view(-1)).unwrap()
}

/// A sweep by the CPU's path or the device's, guarded as a readout does it.
fn by<'a>(readout: &'a Readout, n: &'a Tensor, on_device: bool) -> impl Fn(Ask<'_>) -> Read + 'a {
    move |ask| {
        if !on_device {
            return readout.sweep(n, ask).unwrap();
        }
        match readout.precision() {
            Precision::Exact => device::sweep(readout, n, ask, Precision::Exact).unwrap(),
            Precision::Fast => {
                let pass: guard::Pass<'_> = &|n, ask, precision| device::sweep(readout, n, ask, precision);
                guard::sweep(readout, n, ask, pass).unwrap()
            }
        }
    }
}

/// A sweep against dense f64 softmaxes: every statistic to `tolerance` nats, ranks up to the tokens that `near` (a
/// distance of logits) cannot tell apart.
fn compare(readout: &Readout, n: &Tensor, by: &dyn Fn(Ask<'_>) -> Read, tolerance: f64, near: f64) {
    let z = dense(readout, n);
    let (rows, vocab) = z.size2().unwrap();
    let ids: Vec<i64> = (0..rows).map(|i| if i % 5 == 4 { -1 } else { (i * 7919) % vocab }).collect();
    let weights: Vec<f32> = (0..rows).map(|i| (i % 3) as f32).collect();
    let ask = Ask { tokens: &[&ids], marginal: Some(&weights), ..Ask::default() };
    let read = by(ask);
    let e = by(Ask { expectation: true, ..Ask::default() }).expectation.unwrap();

    let level = readout.level(n).unwrap();
    let absolute = |x: &[f64]| -> Vec<f64> { x.iter().zip(&level).map(|(x, level)| x + level).collect() };
    let off = largest(&absolute(&read.lse), &host(&z.logsumexp(-1, false)));
    assert!(off < tolerance, "lse {off} {tolerance}");
    let log_q = z.log_softmax(-1, Kind::Double);
    let q = log_q.exp();
    let entropy = host(&(-(&q * &log_q)).sum_dim_intlist(-1, false, Kind::Double));
    let off = largest(&read.entropy(), &entropy);
    assert!(off < 3.0 * tolerance, "entropy {off} {tolerance}");
    let chosen = Tensor::from_slice(&read.argmax).unsqueeze(-1);
    let gap = (z.amax([-1].as_slice(), false) - z.gather(-1, &chosen, false).squeeze_dim(-1)).max();
    let tie = rounding(readout, n);
    assert!(gap.double_value(&[]) <= tie, "argmax {gap:?} {tie}");
    let slope = match readout.unembed().soft_cap() {
        Some(cap) => -(&z / cap).square() + 1.0,
        None => z.ones_like(),
    };
    let weight = readout.weight().to_kind(Kind::Double);
    let want = (&q * slope).matmul(&weight);
    // Every row of W counts by its size; in bf16 with three digits.
    let size = weight.abs().max().double_value(&[]);
    let off = largest(&host(&e), &host(&want));
    assert!(off < (tolerance + near.min(0.02)) * size.max(1.0), "e {off} {tolerance} {size}");
    let marginal = Tensor::from_slice(&weights).to_kind(Kind::Double).unsqueeze(0).matmul(&q);
    let off = largest(read.marginal.as_ref().unwrap(), &host(&marginal));
    assert!(off < tolerance * (rows as f64).sqrt().max(1.0), "marginal {off} {tolerance}");
    let token = &read.tokens[0];
    for (i, &id) in ids.iter().enumerate() {
        if id < 0 {
            assert!(token.logit[i].is_nan() && token.rank[i] == -1 && read.ce(0)[i].is_nan());
            continue;
        }
        let row = z.get(i as i64);
        let own = row.double_value(&[id]);
        assert!((token.logit[i] + level[i] - own).abs() < tie, "{} {own}", token.logit[i]);
        let above = |bound: f64| row.gt(bound).sum(Kind::Int64).int64_value(&[]);
        let ranks = above(own + near.max(tie))..=above(own - near.max(tie));
        assert!(ranks.contains(&token.rank[i]), "row {i}: {} not in {ranks:?}", token.rank[i]);
    }
}

#[test]
fn a_sweep_agrees_with_dense_softmaxes() {
    let cases = [
        Case::of(1, 8, 5),
        Case { bias: true, ..Case::of(70, 16, 1300) },
        Case { cap: Some(3.0), ..Case::of(600, 24, 700) },
        Case { bias: true, cap: Some(5.0), ..Case::of(33, 8, 512) },
    ];
    for case in cases {
        let (readout, n) = case.build(Precision::Exact);
        for on_device in [false, true] {
            compare(&readout, &n, &by(&readout, &n, on_device), 3e-5, 0.0);
        }
    }
}

/// A number added to all logits of a row changes nothing, and large logits are no reason to be wrong.
#[test]
fn neither_shift_nor_scale_of_the_head_costs_digits() {
    for (scale, shifts) in [
        (1.0, [0.0, 30.0, -100.0, 300.0, -1000.0, 3000.0].as_slice()),
        (10.0, &[0.0, -3000.0]),
        (100.0, &[0.0]),
        (10_000.0, &[0.0, 3000.0]),
    ] {
        for shift in shifts {
            for (bias, cap) in [(false, None), (true, None), (true, Some(30.0))] {
                let case = Case { bias, cap, scale, shift: *shift, ..Case::of(60, 32, 1500) };
                for precision in BOTH {
                    let (readout, n) = case.build(precision);
                    let exact = rounding(&readout, &n);
                    let (tolerance, near) = match precision {
                        Precision::Exact => (exact, 0.0),
                        // What is documented; and what bf16 can make of a product: 2^-8 of its terms, 2^-9 of itself.
                        Precision::Fast => (exact.max(0.05), exact * 32768.0 / 4.0),
                    };
                    // Inside a cap the shift stays, and f32 knows it with so many digits.
                    let tolerance = tolerance + cap.map_or(0.0, |_| shift.abs() * 2e-7);
                    for on_device in [false, true] {
                        compare(&readout, &n, &by(&readout, &n, on_device), tolerance, near);
                    }
                }
            }
        }
    }
}

/// Divergences of nearby and of far distributions, against dense ones.
#[test]
fn divergences_do_not_depend_on_shift_or_scale_and_are_not_negative() {
    for (scale, shift) in [(1.0, 0.0), (1.0, 1000.0), (1.0, -3000.0), (30.0, 0.0), (10_000.0, 3000.0)] {
        for cap in [None, Some(30.0)] {
            let case = Case { cap, scale, shift, bias: true, ..Case::of(60, 32, 1500) };
            for precision in BOTH {
                let (readout, n_p) = case.build(precision);
                let teacher = Teacher::of(&readout, &case.states()).unwrap();
                let log = |n: &Tensor| dense(&readout, n).log_softmax(-1, Kind::Double);
                for step in [0.0, 1e-3, 0.3] {
                    let n_q = &n_p + noise(9, &[60, 32]) * step;
                    let (kl, gradient) = teacher.kl_gradient(&readout, &n_q).unwrap();
                    let again = readout.sweep(&n_q, Ask::default()).unwrap();
                    let again = teacher.kl(&readout, &n_q, &again.lse).unwrap();
                    let (log_p, log_q) = (log(&n_p), log(&n_q));
                    let want = (log_p.exp() * (&log_p - log_q)).sum_dim_intlist(-1, false, Kind::Double);
                    let exact = 2.0 * rounding(&readout, &n_q) + cap.map_or(0.0, |_| shift.abs() * 4e-7);
                    let tolerance = if precision == Precision::Fast { exact.max(0.05) } else { exact };
                    let name = format!("{precision:?} {scale} {shift} {cap:?} {step}");
                    assert!(kl.iter().chain(&again).all(|kl| *kl >= 0.0), "{name}");
                    assert!(
                        largest(&kl, &host(&want)) < tolerance,
                        "{name} {} {tolerance}",
                        largest(&kl, &host(&want))
                    );
                    assert!(largest(&again, &host(&want)) < tolerance, "{name}");
                    assert!(gradient.isfinite().all().int64_value(&[]) == 1, "{name}");
                }
            }
        }
    }
}

#[test]
fn a_fast_sweep_is_close_and_closer_where_the_distribution_is_peaked() {
    let case = Case { bias: true, ..Case::of(512, 64, 4000) };
    let ((fast, n), exact) = (case.build(Precision::Fast), case.build(Precision::Exact).0);
    let (a, b) = (fast.sweep(&n, Ask::default()).unwrap(), exact.sweep(&n, Ask::default()).unwrap());
    let off = largest(&a.lse, &b.lse);
    assert!(off > 0.0 && off < 0.05, "{off}");
    let mean: f64 = a.lse.iter().zip(&b.lse).map(|(a, b)| a - b).sum::<f64>() / 512.0;
    assert!(mean.abs() < 1e-3, "{mean}");
    assert!(largest(&a.entropy(), &b.entropy()) < 0.1);
    assert_eq!(a.argmax, b.argmax);
    let audit = fast.audit();
    assert!(audit.rows == 512 && audit.exact < 256, "{audit:?}");
    // Sixteen logits carry nearly everything: then the bf16 error is gone.
    let peaked = &n * 2.0;
    let weights = [1f32; 512];
    let ask = Ask { expectation: true, marginal: Some(&weights), ..Ask::default() };
    let (a, b) = (fast.sweep(&peaked, ask).unwrap(), exact.sweep(&peaked, ask).unwrap());
    assert!(largest(&a.lse, &b.lse) < 0.02, "{}", largest(&a.lse, &b.lse));
    let off = largest(a.marginal.as_ref().unwrap(), b.marginal.as_ref().unwrap());
    assert!(off < 0.02, "{off}");
    let e = |read: Read| host(&read.expectation.unwrap());
    let off = largest(&e(a), &e(b));
    // Entries of W reach 1.3, and eight tiles' sums are rounded to 2^-9 of themselves.
    assert!(off < 0.01, "{off}");
}

/// Forty nearly equal tokens for every likely one: sixteen exact logits are not most of the distribution then.
#[test]
fn rows_that_bf16_is_too_coarse_for_are_swept_again() {
    let mut exact = Vec::new();
    for scale in [0.5, 4.0, 30.0, 3000.0] {
        let norm = Norm::new(NormKind::Rms, None, None, 1e-5);
        let weight = noise(1, &[100, 64]).repeat([40, 1]) * (0.3 * scale) + noise(2, &[4000, 64]) * 0.02;
        let unembed = Unembed::new(norm, weight, None, None).unwrap();
        let [a, b] = BOTH.map(|precision| Readout::new(&unembed, 4000, precision, 2).unwrap());
        let n = a.normalize(&noise(3, &[200, 64])).unwrap();
        let (want, got) = (a.sweep(&n, Ask::default()).unwrap(), b.sweep(&n, Ask::default()).unwrap());
        let off = largest(&got.lse, &want.lse);
        assert!(off < 0.05 && (off == 0.0) == (scale > 9.0), "{scale}: {off}");
        assert_eq!(got.argmax, want.argmax);
        exact.push(b.audit().exact);
    }
    // Hardly any, many, and from the size of their logits all.
    assert!(exact[0] < 20 && exact[1] > 40 && exact[1] < 200, "{exact:?}");
    assert_eq!(exact[2..], [200, 200]);
}

/// What sixteen logits cannot show, the rows that are compared do: here bf16 is wrong about many rare tokens alone.
#[test]
fn errors_where_nobody_looks_are_found_by_comparing() {
    let (readout, n) = Case::of(1024, 16, 20_000).build(Precision::Fast);
    let half = readout.head.half.as_ref().unwrap();
    let common = noise(6, &[1000, 16]);
    readout.head.weight.narrow(0, 0, 1000).copy_(&common);
    half.narrow(0, 0, 1000).copy_(&common);
    let rare = half.narrow(0, 1000, 19_000);
    rare.shallow_clone().copy_(&(&rare * 0.5));
    let error = (0..16).find_map(|_| readout.sweep(&n, Ask::default()).err()).expect("an error");
    assert!(matches!(error, Error::Imprecise { .. }), "{error}");
    assert!(error.to_string().contains("needs the exact readout"), "{error}");
}

#[test]
fn kl_and_its_gradient_agree_with_autograd() {
    for cap in [None, Some(4.0)] {
        let case = Case { bias: true, cap, ..Case::of(40, 16, 800) };
        let (readout, n_p) = case.build(Precision::Exact);
        let n_q = &n_p + noise(8, &[40, 16]) * 0.3;
        let mut read = readout.sweep(&n_p, Ask { expectation: true, ..Ask::default() }).unwrap();
        let teacher = Teacher::new(n_p.shallow_clone(), &mut read).unwrap();
        let (kl, gradient) = teacher.kl_gradient(&readout, &n_q).unwrap();

        let free = n_q.to_kind(Kind::Double).set_requires_grad(true);
        let log_q = dense(&readout, &free).log_softmax(-1, Kind::Double);
        let log_p = dense(&readout, &n_p).log_softmax(-1, Kind::Double);
        let want = (log_p.exp() * (&log_p - log_q)).sum_dim_intlist(-1, false, Kind::Double);
        want.sum(Kind::Double).backward();
        assert!(largest(&kl, &host(&want)) < 3e-5, "{}", largest(&kl, &host(&want)));
        assert!(largest(&host(&gradient), &host(&free.grad())) < 3e-5);

        let own = teacher.kl(&readout, &n_p, &teacher.lse).unwrap();
        assert!(own.iter().all(|kl| kl.abs() < 1e-6));
        let some = teacher.select(&[3, 1]).unwrap();
        assert_eq!((some.rows(), some.lse[1]), (2, teacher.lse[1]));
        let beyond = teacher.select(&[40]).unwrap_err();
        assert!(matches!(beyond, Error::Shape { what: "rows of the teacher", .. }), "{beyond}");
    }
}

#[test]
fn rows_do_not_depend_on_their_company() {
    for (precision, tolerance) in [(Precision::Exact, 1e-6), (Precision::Fast, 5e-3)] {
        let (readout, n) = Case::of(1100, 16, 600).build(precision);
        let all = readout.sweep(&n, Ask::default()).unwrap();
        let some = readout.sweep(&n.narrow(0, 517, 3), Ask::default()).unwrap();
        assert!(largest(&some.lse, &all.lse[517..520]) < tolerance);
        let none = readout.sweep(&n.narrow(0, 0, 0), Ask { expectation: true, ..Ask::default() }).unwrap();
        assert_eq!((none.lse.len(), none.expectation.unwrap().size()), (0, vec![0, 16]));
    }
}

/// A mask of -1e9 on some tokens, as checkpoints have it, takes no digits from the others.
#[test]
fn masked_tokens_do_not_count() {
    let case = Case { bias: true, ..Case::of(30, 16, 300) };
    let unembed = case.unembed();
    let _ = unembed.bias().unwrap().narrow(0, 250, 50).fill_(-1e9);
    for precision in BOTH {
        let masked = Readout::new(&unembed, 300, precision, 1).unwrap();
        let cut = Readout::new(&unembed, 250, Precision::Exact, 1).unwrap();
        let n = masked.normalize(&case.states()).unwrap();
        let absolute = |readout: &Readout| -> Vec<f64> {
            let (read, level) = (readout.sweep(&n, Ask::default()).unwrap(), readout.level(&n).unwrap());
            read.lse.iter().zip(level).map(|(lse, level)| lse + level).collect()
        };
        let tolerance = if precision == Precision::Fast { 0.05 } else { 1e-5 };
        assert!(largest(&absolute(&masked), &absolute(&cut)) < tolerance);
    }
}

#[test]
fn padding_rows_are_masked_and_bad_input_is_named() {
    let (readout, n) = Case { bias: true, ..Case::of(3, 8, 50) }.build(Precision::Exact);
    let masked = Readout::new(readout.unembed(), 40, Precision::Exact, 1).unwrap();
    let read = masked.sweep(&n, Ask::default()).unwrap();
    let want = host(&dense(&readout, &n).narrow(1, 0, 40).logsumexp(-1, false));
    let level = masked.level(&n).unwrap();
    let lse: Vec<f64> = read.lse.iter().zip(level).map(|(lse, level)| lse + level).collect();
    assert!(largest(&lse, &want) < 1e-5);
    assert_eq!(
        Readout::new(readout.unembed(), 51, Precision::Exact, 1).unwrap_err().to_string(),
        "vocabulary: expected shape at most 50 tokens, got [51]"
    );
    let message = |e: Result<Read, Error>| e.unwrap_err().to_string();
    assert!(
        message(readout.sweep(&n, Ask { tokens: &[&[0, 50, 1]], ..Ask::default() })).contains("token id 50")
    );
    assert!(
        message(readout.sweep(&n, Ask { tokens: &[&[0]], ..Ask::default() })).contains("one per row of 3")
    );
    assert!(message(readout.sweep(&n.narrow(1, 0, 7), Ask::default())).contains("[rows, 8]"));
    for precision in BOTH {
        let readout = Readout::new(readout.unembed(), 50, precision, 1).unwrap();
        let nan = &n * Tensor::from_slice(&[1f32, f32::NAN, 1.0]).unsqueeze(-1);
        assert!(message(readout.sweep(&nan, Ask::default())).contains("row 1 of the batch is not finite"));
    }
}

/// Over tiles as within one: of tokens that score alike the first is said.
#[test]
fn of_equal_tokens_the_first_is_said() {
    let case = Case { scale: 0.0, ..Case::of(5, 32, 1500) };
    for precision in BOTH {
        let (readout, n) = case.build(precision);
        let read = readout.sweep(&n, Ask::default()).unwrap();
        assert_eq!(read.argmax, [0; 5], "{precision:?}");
    }
}

/// With a soft cap both parts of a reading that do not go together are read apart, and each is what it is alone.
#[test]
fn under_a_cap_expectation_and_marginal_come_together() {
    let case = Case { cap: Some(4.0), bias: true, ..Case::of(40, 16, 900) };
    let (readout, n) = case.build(Precision::Exact);
    let weights: Vec<f32> = (0..40).map(|row| 0.5 + row as f32 / 40.0).collect();
    let asked = Ask { expectation: true, marginal: Some(&weights), ..Ask::default() };
    let (both, one) = (readout.sweep(&n, asked).unwrap(), Ask { marginal: None, ..asked });
    let alone = readout.sweep(&n, one).unwrap();
    let close = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]) < 1e-5;
    assert!(close(both.expectation.as_ref().unwrap(), alone.expectation.as_ref().unwrap()));
    assert_eq!(both.lse, alone.lse);
    let p = dense(&readout, &n).softmax(-1, Kind::Double);
    let want = Tensor::from_slice(&weights).to_kind(Kind::Double).unsqueeze(0).matmul(&p).squeeze_dim(0);
    let got = Tensor::from_slice(both.marginal.as_ref().unwrap());
    assert!(close(&got.to_kind(Kind::Double), &want));
    assert!(alone.marginal.is_none());
}

/// Cross-entropies against the dense ones of the same tokens.
#[test]
fn a_tokens_cross_entropy_is_its_dense_one() {
    let (readout, n) = Case { bias: true, ..Case::of(6, 16, 700) }.build(Precision::Exact);
    let tokens = [0_i64, 699, 5, -1, 512, 511];
    let read = readout.sweep(&n, Ask { tokens: &[&tokens], ..Ask::default() }).unwrap();
    let log_p = dense(&readout, &n).log_softmax(-1, Kind::Double);
    for (row, (token, ce)) in tokens.iter().zip(read.ce(0)).enumerate() {
        if *token < 0 {
            assert!(ce.is_nan());
        } else {
            let want = -log_p.double_value(&[row as i64, *token]);
            assert!((ce - want).abs() < 2e-5, "{ce} {want}");
        }
    }
}

#[test]
fn what_the_readout_says_of_itself() {
    let (readout, _) = Case { bias: true, ..Case::of(3, 8, 50) }.build(Precision::Exact);
    // Without its median.
    let bias = readout.bias().unwrap();
    assert!(bias.size() == [50] && bias.median().double_value(&[]).abs() < 1e-6);
    assert!(Case::of(3, 8, 50).build(Precision::Exact).0.bias().is_none());
    #[cfg(target_arch = "x86_64")]
    assert_eq!(Readout::has_fast(Device::Cpu), std::arch::is_x86_feature_detected!("avx512bf16"));
    assert!(Readout::has_fast(Device::Cuda(0)));
}

/// A KL under a cap is summed tile by tile over the vocabulary where there are many rows: here two tiles, the second cut
/// off by the vocabulary's end.
#[test]
fn a_capped_kl_is_summed_over_tiles() {
    let case = Case { cap: Some(6.0), bias: true, ..Case::of(2100, 8, 3000) };
    let (readout, n) = case.build(Precision::Exact);
    let teacher = Teacher::of(&readout, &case.states()).unwrap();
    let n_q = n.flip([0]);
    let lse_q = readout.sweep(&n_q, Ask::default()).unwrap().lse;
    let (kl, gradient) = teacher.kl_gradient(&readout, &n_q).unwrap();
    // The sums come of two sweeps, which ask for different things.
    let apart = largest(&kl, &teacher.kl(&readout, &n_q, &lse_q).unwrap());
    assert!(apart < 1e-5, "{apart}");
    let z_q = dense(&readout, &n_q);
    let (log_p, log_q) =
        (dense(&readout, &n).log_softmax(-1, Kind::Double), z_q.log_softmax(-1, Kind::Double));
    let want = (log_p.exp() * (&log_p - &log_q)).sum_dim_intlist(-1, false, Kind::Double);
    let off = largest(&kl, &host(&want));
    assert!(off < 2e-5, "{off}");
    // d KL / d n_q = Σ (q − p) · slope(z_q) · W.
    let slope = -(&z_q / 6.0).square() + 1.0;
    let want = ((log_q.exp() - log_p.exp()) * slope).matmul(&readout.weight().to_kind(Kind::Double));
    assert!(largest(&host(&gradient), &host(&want)) < 2e-5);
}
