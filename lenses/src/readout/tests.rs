use super::*;
use crate::{Norm, NormKind};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A readout whose logits spread like a model's, and states for it.
fn setup(
    rows: i64,
    d: i64,
    vocab: i64,
    bias: bool,
    cap: Option<f64>,
    precision: Precision,
) -> (Readout, Tensor) {
    tch::manual_seed(7);
    let norm = Norm::new(NormKind::Layer, Some(Tensor::rand([d], CPU) + 0.5), None, 1e-5);
    let weight = Tensor::randn([vocab, d], CPU) * 0.4;
    let bias = bias.then(|| Tensor::randn([vocab], CPU));
    let unembed = Unembed::new(norm, weight, bias, cap).unwrap();
    let readout = Readout::new(&unembed, vocab as usize, precision, 2).unwrap();
    let n = readout.normalize(&(Tensor::randn([rows, d], CPU) * 2.0)).unwrap();
    (readout, n)
}

/// Logits in f64.
fn dense(readout: &Readout, n: &Tensor) -> Tensor {
    let mut z = n.to_kind(Kind::Double).matmul(&readout.weight.to_kind(Kind::Double).tr());
    if let Some(bias) = &readout.bias {
        z += bias.to_kind(Kind::Double);
    }
    match readout.soft_cap() {
        Some(cap) => (z / cap).tanh() * cap,
        None => z,
    }
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

fn host(t: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(t.to_kind(Kind::Double).contiguous().view(-1)).unwrap()
}

/// A sweep against dense f64 softmaxes, every statistic to `tolerance`.
fn compare(readout: &Readout, n: &Tensor, by: &dyn Fn(Ask<'_>) -> Read, tolerance: f64) {
    let z = dense(readout, n);
    let (rows, vocab) = z.size2().unwrap();
    let ids: Vec<i64> = (0..rows).map(|i| if i % 5 == 4 { -1 } else { (i * 7919) % vocab }).collect();
    let weights: Vec<f32> = (0..rows).map(|i| (i % 3) as f32).collect();
    let read = by(Ask { expectation: true, tokens: &[&ids], marginal: Some(&weights) });

    let lse = z.logsumexp(-1, false);
    let q = z.softmax(-1, Kind::Double);
    assert!(largest(&read.lse, &host(&lse)) < tolerance);
    let entropy = host(&(-(&q * z.log_softmax(-1, Kind::Double)).sum_dim_intlist(-1, false, Kind::Double)));
    assert!(largest(&read.entropy(), &entropy) < 3.0 * tolerance);
    assert_eq!(read.argmax, Vec::<i64>::try_from(z.argmax(-1, false)).unwrap());
    let slope = match readout.soft_cap() {
        Some(cap) => -(&z / cap).square() + 1.0,
        None => z.ones_like(),
    };
    let e = (&q * slope).matmul(&readout.weight.to_kind(Kind::Double));
    assert!(largest(&host(&read.expectation.as_ref().unwrap().shallow_clone()), &host(&e)) < tolerance);
    let marginal = Tensor::from_slice(&weights).to_kind(Kind::Double).unsqueeze(0).matmul(&q);
    let off = largest(read.marginal.as_ref().unwrap(), &host(&marginal));
    assert!(off < tolerance, "{off} {rows}");
    let token = &read.tokens[0];
    for (i, &id) in ids.iter().enumerate() {
        if id < 0 {
            assert!(token.logit[i].is_nan() && token.rank[i] == -1 && read.ce(0)[i].is_nan());
            continue;
        }
        let row = z.get(i as i64);
        assert!((token.logit[i] - row.double_value(&[id])).abs() < 1e-4);
        let rank = row.gt(row.double_value(&[id])).sum(Kind::Int64).int64_value(&[]);
        assert_eq!(token.rank[i], rank, "row {i}");
    }
}

#[test]
fn a_sweep_agrees_with_dense_softmaxes() {
    let cases = [
        (1, 8, 5, false, None),
        (70, 16, 1300, true, None),
        (600, 24, 700, false, Some(3.0)),
        (33, 8, 512, true, Some(5.0)),
    ];
    for (rows, d, vocab, bias, cap) in cases {
        let (readout, n) = setup(rows, d, vocab, bias, cap, Precision::Exact);
        compare(&readout, &n, &|ask| readout.sweep(&n, ask).unwrap(), 3e-5);
        compare(&readout, &n, &|ask| device::sweep(&readout, &n, ask).unwrap(), 3e-5);
    }
}

#[test]
fn a_fast_sweep_is_close_and_close_where_the_distribution_is_peaked() {
    let (mut readout, n) = setup(64, 32, 900, true, None, Precision::Exact);
    readout.half = Some(readout.weight.to_kind(Kind::BFloat16));
    let exact = setup(64, 32, 900, true, None, Precision::Exact).0;
    let (a, b) = (readout.sweep(&n, Ask::default()).unwrap(), exact.sweep(&n, Ask::default()).unwrap());
    assert!(readout.precision() == Precision::Fast && largest(&a.lse, &b.lse) > 0.0);
    assert!(largest(&a.lse, &b.lse) < 0.02, "{}", largest(&a.lse, &b.lse));
    assert!(largest(&a.entropy(), &b.entropy()) < 0.05);
    assert_eq!(a.argmax, b.argmax);
    // Sixteen logits carry nearly everything: then the bf16 error is gone.
    let peaked = &n * 4.0;
    let weights = [1f32; 64];
    let ask = Ask { expectation: true, marginal: Some(&weights), ..Ask::default() };
    let (a, b) = (readout.sweep(&peaked, ask).unwrap(), exact.sweep(&peaked, ask).unwrap());
    assert!(largest(&a.lse, &b.lse) < 2e-3, "{}", largest(&a.lse, &b.lse));
    assert!(largest(&a.marginal.unwrap(), &b.marginal.unwrap()) < 5e-3);
    // W itself has eight bits of mantissa in e.
    assert!(largest(&host(&a.expectation.unwrap()), &host(&b.expectation.unwrap())) < 2e-2);
}

#[test]
fn kl_and_its_gradient_agree_with_autograd() {
    for cap in [None, Some(4.0)] {
        let (readout, n_p) = setup(40, 16, 800, true, cap, Precision::Exact);
        let n_q = &n_p + Tensor::randn([40, 16], CPU) * 0.3;
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
    let (readout, n) = setup(1100, 16, 600, false, None, Precision::Exact);
    let all = readout.sweep(&n, Ask::default()).unwrap();
    let some = readout.sweep(&n.narrow(0, 517, 3), Ask::default()).unwrap();
    assert!(largest(&some.lse, &all.lse[517..520]) < 1e-6);
    assert_eq!(
        readout.sweep(&n.narrow(0, 0, 0), Ask { expectation: true, ..Ask::default() }).unwrap().lse.len(),
        0
    );
}

#[test]
fn padding_rows_are_masked_and_bad_input_is_named() {
    let (readout, n) = setup(3, 8, 50, true, None, Precision::Exact);
    let masked = Readout::new(readout.unembed(), 40, Precision::Exact, 1).unwrap();
    let read = masked.sweep(&n, Ask::default()).unwrap();
    let want = host(&dense(&readout, &n).narrow(1, 0, 40).logsumexp(-1, false));
    assert!(largest(&read.lse, &want) < 1e-5);
    assert!(Readout::new(readout.unembed(), 51, Precision::Exact, 1).is_err());
    let message = |e: Result<Read, Error>| e.unwrap_err().to_string();
    assert!(
        message(readout.sweep(&n, Ask { tokens: &[&[0, 50, 1]], ..Ask::default() })).contains("token id 50")
    );
    assert!(
        message(readout.sweep(&n, Ask { tokens: &[&[0]], ..Ask::default() })).contains("one per row of 3")
    );
    assert!(message(readout.sweep(&n.narrow(1, 0, 7), Ask::default())).contains("[rows, 8]"));
    let nan = &n * Tensor::from_slice(&[1f32, f32::NAN, 1.0]).unsqueeze(-1);
    assert!(message(readout.sweep(&nan, Ask::default())).contains("row 1 of the batch is not finite"));
}
