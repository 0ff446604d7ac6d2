//! What a probe is to find: a label per item, with the groups and types that statistics need.

use layerscope_probes::Labels;
use ndarray::Array2;

use crate::sources::labelled::{LabelValues, Plan, Unit};

/// Labels of all items.
#[derive(Debug, Clone)]
pub enum Target {
    /// A class per item.
    Classes {
        /// Below `names.len()`.
        y: Vec<u32>,
        /// What the classes are called.
        names: Vec<String>,
    },
    /// A number per item, `(n, 1)`.
    Numbers(Array2<f64>),
}

/// Items without their states.
#[derive(Debug, Clone)]
pub struct Task {
    /// Labels.
    pub target: Target,
    /// Group of every item: what a split keeps together and intervals resample.
    pub groups: Vec<u64>,
    /// Word type of every item, where items are words, spans or tokens.
    pub types: Option<Vec<u64>>,
    /// Window of every item.
    pub windows: Vec<u32>,
    /// Whether items are whole texts.
    pub unit: Unit,
}

impl Task {
    /// The items of a plan.
    pub fn of(plan: &Plan, unit: Unit) -> Self {
        let target = match &plan.labels {
            LabelValues::Classes { y, names } => Target::Classes { y: y.clone(), names: names.clone() },
            LabelValues::Numbers(y) => {
                Target::Numbers(Array2::from_shape_fn((y.len(), 1), |(row, _)| y[row]))
            }
        };
        Self {
            target,
            groups: plan.items.iter().map(|item| u64::from(item.group)).collect(),
            types: plan.items.iter().map(|item| item.word.map(u64::from)).collect(),
            windows: plan.items.iter().map(|item| item.window).collect(),
            unit,
        }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Number of classes; none for numbers.
    pub fn n_classes(&self) -> Option<usize> {
        self.target.n_classes()
    }

    /// The labels as estimators take them.
    pub fn labels(&self) -> Labels<'_> {
        self.target.labels()
    }

    /// The same items, each with the label of another: item i has that of `rows[i]`.
    #[must_use]
    pub fn relabelled(&self, rows: &[usize]) -> Self {
        Self { target: self.target.select(rows), ..self.clone() }
    }

    /// The items whose class is kept, under other classes: those of the old class c have the new class `to[c]`. Numbers
    /// stay as they are.
    #[must_use]
    pub fn regrouped(&self, to: &[Option<u32>], names: &[String]) -> Self {
        let Target::Classes { y, .. } = &self.target else { return self.clone() };
        let rows: Vec<usize> = (0..y.len()).filter(|row| to[y[*row] as usize].is_some()).collect();
        let y = rows.iter().filter_map(|row| to[y[*row] as usize]).collect();
        Self { target: Target::Classes { y, names: names.to_vec() }, ..self.select(&rows) }
    }

    /// The items `rows` alone.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            target: self.target.select(rows),
            groups: pick(&self.groups, rows),
            types: self.types.as_ref().map(|types| pick(types, rows)),
            windows: pick(&self.windows, rows),
            unit: self.unit,
        }
    }
}

/// The values at `rows`.
pub(super) fn pick<T: Copy>(values: &[T], rows: &[usize]) -> Vec<T> {
    rows.iter().map(|row| values[*row]).collect()
}
