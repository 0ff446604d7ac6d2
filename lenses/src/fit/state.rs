//! What a checkpoint keeps of a fit, as named tensors: enough to go on to the same last bit.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::{Fitter, kfac::Factors};
use crate::Error;

impl Fitter {
    /// Everything that changes while fitting. Call it between steps.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let t = &self.translators;
        let numbers = |values: Vec<f64>| Tensor::from_slice(&values);
        let mut state = BTreeMap::from([
            ("step".to_owned(), numbers(vec![self.step as f64])),
            ("gains".to_owned(), numbers(t.gains.clone())),
            ("stale".to_owned(), numbers(self.stale.iter().map(|n| *n as f64).collect())),
            ("best.loss".to_owned(), numbers(self.best.iter().map(|b| b.0).collect())),
            ("shared.weight".to_owned(), t.shared.weight.copy()),
            ("shared.bias".to_owned(), t.shared.bias.copy()),
        ]);
        for (i, own) in t.own.iter().enumerate() {
            state.insert(format!("own.{i}.weight"), own.weight.copy());
            state.insert(format!("own.{i}.bias"), own.bias.copy());
            state.insert(format!("best.{i}.weight"), self.best[i].1.weight.copy());
            state.insert(format!("best.{i}.bias"), self.best[i].1.bias.copy());
        }
        for (i, factors) in self.factors.iter().enumerate() {
            let (fisher, input, refreshes) = factors.state();
            state.insert(format!("fisher.{i}"), fisher.copy());
            state.insert(format!("input.{i}"), input.copy());
            state.insert(format!("refreshes.{i}"), numbers(vec![refreshes as f64]));
        }
        for (i, memory) in self.memory.iter().enumerate() {
            state.insert(format!("first.{i}"), memory.first.copy());
            state.insert(format!("second.{i}"), memory.second.copy());
            state.insert(format!("largest.{i}"), memory.largest.copy());
        }
        state
    }

    /// Goes back to where [`Fitter::state`] was taken.
    ///
    /// # Errors
    /// [`Error::Shape`] when a tensor is missing or has another shape than this fit's.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), Error> {
        let device = self.translators.shared.bias.device();
        let take = |name: &str, like: &Tensor| match state.get(name) {
            Some(t) if t.size() == like.size() => Ok(t.to_device(device).to_kind(like.kind()).copy()),
            other => Err(Error::Shape {
                what: "checkpoint",
                expected: format!("{name} {:?}", like.size()),
                got: other.map(Tensor::size).unwrap_or_default(),
            }),
        };
        let numbers = |name: &str, n: usize| {
            let like = Tensor::zeros([n as i64], (Kind::Double, tch::Device::Cpu));
            take(name, &like).and_then(|t| Ok(Vec::<f64>::try_from(t.to_device(tch::Device::Cpu))?))
        };
        let layers = self.translators.layers();
        self.step = numbers("step", 1)?[0] as usize;
        self.stale = numbers("stale", layers)?.into_iter().map(|n| n as usize).collect();
        let losses = numbers("best.loss", layers)?;
        let t = &mut self.translators;
        t.gains = numbers("gains", layers)?;
        t.shared.weight = take("shared.weight", &t.shared.weight)?;
        t.shared.bias = take("shared.bias", &t.shared.bias)?;
        for (i, own) in t.own.iter_mut().enumerate() {
            own.weight = take(&format!("own.{i}.weight"), &own.weight)?;
            own.bias = take(&format!("own.{i}.bias"), &own.bias)?;
            let best = &mut self.best[i];
            best.0 = losses[i];
            best.1.weight = take(&format!("best.{i}.weight"), &best.1.weight)?;
            best.1.bias = take(&format!("best.{i}.bias"), &best.1.bias)?;
        }
        for (i, factors) in self.factors.iter_mut().enumerate() {
            let (fisher, input, _) = factors.state();
            let (fisher, input) =
                (take(&format!("fisher.{i}"), fisher)?, take(&format!("input.{i}"), input)?);
            let refreshes = numbers(&format!("refreshes.{i}"), 1)?[0] as usize;
            *factors = Factors::from_state(fisher, input, refreshes);
        }
        for (i, memory) in self.memory.iter_mut().enumerate() {
            memory.first = take(&format!("first.{i}"), &memory.first)?;
            memory.second = take(&format!("second.{i}"), &memory.second)?;
            memory.largest = take(&format!("largest.{i}"), &memory.largest)?;
        }
        Ok(())
    }
}
