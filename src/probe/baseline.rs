//! What is known without a model: the commonest class, and the tokens themselves.

use layerscope_probes::{Error, TokenColumns, TypeMajority, majority, score::Classified};
use ndarray::Array2;

use super::{Options, ProbeError, Round, Target, Task, estimator::logistic, task::pick};

/// A baseline on the test items of one split.
#[derive(Debug, Clone)]
pub struct Baseline {
    /// `majority`, `token-identity` or `bag-of-tokens`.
    pub name: &'static str,
    /// 1 where it is right, per test item.
    pub correct: Vec<f64>,
    /// Its scores `(n_test, k)`, where it has them.
    pub scores: Option<Array2<f64>>,
}

/// The baselines of classes: the majority class of the training part; for words the class a word type has most often
/// there; for texts logistic regression on the counts of their `tokens` (of each window). Numbers have none.
///
/// # Errors
/// [`ProbeError::Probe`].
pub fn baselines(
    task: &Task,
    tokens: &[Vec<u32>],
    round: &Round,
    options: &Options,
) -> Result<Vec<Baseline>, ProbeError> {
    let Target::Classes { y, names } = &task.target else { return Ok(Vec::new()) };
    let (train, test) = (pick(y, &round.train), pick(y, &round.test));
    let common = majority(&train, names.len()).map_err(ProbeError::at("majority"))?;
    let mut all =
        vec![Baseline { name: "majority", correct: right(test.iter().map(|y| (common, *y))), scores: None }];
    if let Some(types) = &task.types {
        let fitted = TypeMajority::fit(&pick(types, &round.train), &train, names.len());
        let found = fitted.map_err(ProbeError::at("token identity"))?.predict(&pick(types, &round.test));
        let correct = right(found.into_iter().zip(test.iter().copied()));
        all.push(Baseline { name: "token-identity", correct, scores: None });
    } else {
        let scores =
            bag(task, tokens, round, options, names.len()).map_err(ProbeError::at("bag of tokens"))?;
        let correct =
            Classified::new(scores.view(), &test).map_err(ProbeError::at("bag of tokens"))?.correct();
        all.push(Baseline { name: "bag-of-tokens", correct, scores: Some(scores) });
    }
    Ok(all)
}

fn right(pairs: impl Iterator<Item = (u32, u32)>) -> Vec<f64> {
    pairs.map(|(found, y)| f64::from(u8::from(found == y))).collect()
}

/// Scores of logistic regression on token counts, its penalty chosen on the validation part.
fn bag(
    task: &Task,
    tokens: &[Vec<u32>],
    round: &Round,
    options: &Options,
    n_classes: usize,
) -> Result<Array2<f64>, Error> {
    let texts = |rows: &[usize]| -> Vec<&[u32]> {
        rows.iter().map(|row| tokens[task.windows[*row] as usize].as_slice()).collect()
    };
    let columns = TokenColumns::fit(&texts(&round.train));
    let counts = |rows: &[usize]| columns.counts(&texts(rows));
    let (train, validation, test) = (counts(&round.train)?, counts(&round.validation)?, counts(&round.test)?);
    let Target::Classes { y, .. } = &task.target else { return Err(Error::Empty) };
    let own = pick(y, &round.train);
    let labels = layerscope_probes::Labels::Classes { y: &own, n_classes };
    let logistic = logistic(options);
    let known = pick(y, &round.validation);
    let mut best: Option<(f64, Array2<f64>)> = None;
    for probe in logistic.path_plain(&train, &labels, &options.l2)? {
        let nll = Classified::new(probe.linear.scores_of(&validation)?.view(), &known)?.nll();
        let nll = nll.iter().sum::<f64>() / nll.len() as f64;
        if best.as_ref().is_none_or(|(other, _)| nll < *other) {
            best = Some((nll, probe.linear.scores_of(&test)?));
        }
    }
    best.map(|(_, scores)| scores).ok_or(Error::Empty)
}
