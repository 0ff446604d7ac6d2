//! Cells as files, which a repeated command goes on from.

use std::{collections::BTreeMap, path::Path};

use layerscope_probes::{Linear, Link};
use ndarray::{Array1, Array2};
use tch::{Kind, Tensor};

use super::{
    super::{Estimator, Fitted, ProbeError},
    Cell, Code, Reading,
};
use crate::{
    model::Weights,
    states::{check_tensors, write_tensors},
};

impl Cell {
    /// Writes the cell, whole or not at all.
    ///
    /// # Errors
    /// [`ProbeError::Run`] naming the file.
    pub fn write(&self, path: &Path) -> Result<(), ProbeError> {
        let mut tensors = BTreeMap::new();
        for (estimator, r) in &self.readings {
            let mut put =
                |name: &str, tensor: Tensor| tensors.insert(format!("{}/{name}", estimator.name()), tensor);
            let (linear, l2) = (&r.fitted.linear, r.fitted.l2.unwrap_or(f64::NAN));
            put("scores", two(&r.scores));
            put("train", two(&r.train));
            put("weights", two(&linear.weights));
            put("bias", Tensor::from_slice(&linear.bias.to_vec()));
            put(
                "facts",
                Tensor::from_slice(&[
                    l2,
                    f64::from(u8::from(r.fitted.converged)),
                    link(linear.link),
                    f64::from(u8::from(r.constant)),
                    r.validation,
                ]),
            );
            let code = r.code.as_ref();
            let matrices = [
                ("control", Some(&r.control)),
                ("shuffled", Some(&r.shuffled)),
                ("bits", code.map(|code| &code.bits)),
                ("shuffled_bits", code.map(|code| &code.shuffled)),
            ];
            for (name, matrix) in matrices {
                if let Some(matrix) = matrix.filter(|matrix| !matrix.is_empty()) {
                    put(name, two(matrix));
                }
            }
            if let Some(values) = &r.permuted {
                put("permuted", Tensor::from_slice(values));
            }
        }
        Ok(write_tensors(path, &tensors)?)
    }

    /// Reads a cell back; none where there is no such file, or one that is not what a sweep wrote.
    ///
    /// # Errors
    /// When the file holds another estimator.
    pub fn read(path: &Path, estimators: &[Estimator]) -> Result<Option<Self>, ProbeError> {
        if check_tensors(path).is_err() {
            return Ok(None); // it is measured again, and the file replaced
        }
        let file = Weights::open_file(path, Kind::Double)?;
        // Earlier versions kept one number of the items of the fit.
        if estimators.iter().any(|estimator| !file.has(&format!("{}/train", estimator.name()))) {
            return Ok(None);
        }
        let read = |estimator: &Estimator| {
            Ok((*estimator, Tensors { file: &file, path, estimator: *estimator }.reading()?))
        };
        let readings = estimators.iter().map(read).collect::<Result<_, ProbeError>>()?;
        Ok(Some(Self { readings }))
    }
}

/// What a file holds of one estimator.
struct Tensors<'a> {
    file: &'a Weights,
    path: &'a Path,
    estimator: Estimator,
}

impl Tensors<'_> {
    fn reading(&self) -> Result<Reading, ProbeError> {
        let facts = self.vector("facts")?;
        let fact = |place: usize| facts.get(place).copied().unwrap_or(f64::NAN);
        let linear =
            Linear::new(self.matrix("weights")?, Array1::from(self.vector("bias")?), link_of(fact(2)));
        let linear = linear.map_err(ProbeError::at(self.path.display().to_string()))?;
        let l2 = Some(fact(0)).filter(|l2| !l2.is_nan());
        let scores = self.matrix("scores")?;
        let of_items = |name: &str| {
            let found = self.some(name, Self::matrix);
            found.map(|found| found.unwrap_or_else(|| Array2::zeros((0, scores.nrows()))))
        };
        let (control, shuffled) = (of_items("control")?, of_items("shuffled")?);
        let code = match self.some("bits", Self::matrix)? {
            None => None,
            Some(bits) => {
                let none = Array2::zeros((0, bits.ncols()));
                let shuffled = self.some("shuffled_bits", Self::matrix)?.unwrap_or(none);
                Some(Code { bits, shuffled })
            }
        };
        Ok(Reading {
            fitted: Fitted { linear, l2, converged: fact(1) == 1.0 },
            scores,
            train: self.matrix("train")?,
            validation: fact(4),
            constant: fact(3) == 1.0,
            control,
            shuffled,
            code,
            permuted: self.some("permuted", Self::vector)?,
        })
    }

    fn name(&self, what: &str) -> String {
        format!("{}/{what}", self.estimator.name())
    }

    fn some<T>(
        &self,
        what: &str,
        read: impl Fn(&Self, &str) -> Result<T, ProbeError>,
    ) -> Result<Option<T>, ProbeError> {
        self.file.has(&self.name(what)).then(|| read(self, what)).transpose()
    }

    fn vector(&self, what: &str) -> Result<Vec<f64>, ProbeError> {
        Ok(self.matrix(what)?.into_iter().collect())
    }

    /// A vector is one row.
    fn matrix(&self, what: &str) -> Result<Array2<f64>, ProbeError> {
        let tensor = self.file.take_any(&self.name(what))?.to_kind(Kind::Double);
        let columns = tensor.size().last().copied().unwrap_or(1).max(1) as usize;
        let values = Vec::<f64>::try_from(tensor.view([-1])).map_err(crate::model::ModelError::from)?;
        Ok(Array2::from_shape_vec((values.len() / columns, columns), values).unwrap_or_default())
    }
}

fn two(values: &Array2<f64>) -> Tensor {
    let flat: Vec<f64> = values.iter().copied().collect();
    Tensor::from_slice(&flat).view([values.nrows() as i64, values.ncols() as i64])
}

fn link(link: Link) -> f64 {
    match link {
        Link::Identity => 0.0,
        Link::Margin => 1.0,
        Link::Sigmoid => 2.0,
        Link::Softmax => 3.0,
    }
}

fn link_of(number: f64) -> Link {
    [Link::Identity, Link::Margin, Link::Sigmoid, Link::Softmax][(number as usize).min(3)]
}
