//! The columns of `metrics.parquet` that hold what a subject is made of; all are nullable.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray},
    datatypes::{DataType, Float64Type, Int32Type},
};

use super::subject::{Direction, Parts, Subject};

/// A type that a column of parts may have.
trait ColumnValue: Sized {
    const TYPE: DataType;
    fn array(values: Vec<Option<Self>>) -> ArrayRef;
    fn read(column: &ArrayRef, row: usize) -> Self;
}

impl ColumnValue for String {
    const TYPE: DataType = DataType::Utf8;

    fn array(values: Vec<Option<Self>>) -> ArrayRef {
        Arc::new(StringArray::from(values))
    }

    fn read(column: &ArrayRef, row: usize) -> Self {
        column.as_string::<i32>().value(row).to_owned()
    }
}

impl ColumnValue for i32 {
    const TYPE: DataType = DataType::Int32;

    fn array(values: Vec<Option<Self>>) -> ArrayRef {
        Arc::new(Int32Array::from(values))
    }

    fn read(column: &ArrayRef, row: usize) -> Self {
        column.as_primitive::<Int32Type>().value(row)
    }
}

impl ColumnValue for f64 {
    const TYPE: DataType = DataType::Float64;

    fn array(values: Vec<Option<Self>>) -> ArrayRef {
        Arc::new(Float64Array::from(values))
    }

    fn read(column: &ArrayRef, row: usize) -> Self {
        column.as_primitive::<Float64Type>().value(row)
    }
}

macro_rules! columns {
    ($($field:ident: $kind:ty,)*) => {
        /// A subject's parts, a column each.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub(super) struct Columns { $($field: Option<$kind>,)* }

        impl Columns {
            /// Names and types, in the file's order.
            pub(super) const ALL: &'static [(&'static str, DataType)] =
                &[$((stringify!($field), <$kind as ColumnValue>::TYPE)),*];

            /// The columns of rows.
            pub(super) fn arrays(rows: &[Self]) -> Vec<ArrayRef> {
                vec![$(ColumnValue::array(rows.iter().map(|row| row.$field.clone()).collect())),*]
            }

            /// A row's, from the columns of a file.
            pub(super) fn read(batch: &RecordBatch, row: usize) -> Self {
                Self { $($field: batch
                    .column_by_name(stringify!($field))
                    .filter(|column| column.is_valid(row))
                    .map(|column| ColumnValue::read(column, row)),)* }
            }
        }
    };
}

columns! {
    of: String,
    rung: String,
    less: String,
    direction: String,
    direction_number: i32,
    strength: f64,
    correction: String,
    schedule: String,
    skipped_block: i32,
    step: i32,
    position: i32,
    token: String,
    trained_on: String,
    tested_on: String,
    prompt: i32,
    variant: String,
    share: f64,
    head: i32,
    component: String,
    neuron: i32,
}

// `variant` of a push that is the mean of random ones, of a random vector beside a learnt one, and of thoughts thought
// anew.
const RANDOM_MEAN: &str = "random-mean";
const RANDOM_TWIN: &str = "random-twin";
const ANEW: &str = "anew";

fn int(number: usize) -> Option<i32> {
    i32::try_from(number).ok()
}

fn index(number: i32) -> Option<usize> {
    usize::try_from(number).ok()
}

impl From<&Subject> for Columns {
    fn from(subject: &Subject) -> Self {
        let of = |of: &String| Self { of: Some(of.clone()), ..Self::default() };
        let text = |text: &str| Some(text.to_owned());
        match subject.parts() {
            Parts::Name => Self { of: text(subject), ..Self::default() },
            Parts::Rung { of: lens, rung } => Self { rung: text(rung), ..of(lens) },
            Parts::Less { of: a, less } => Self { less: text(less), ..of(a) },
            Parts::Without { of: lens, direction } => Self {
                direction: text(&direction.set),
                direction_number: direction.number.and_then(int),
                ..of(lens)
            },
            Parts::Pushed { of: name, strength } => Self { strength: Some(*strength), ..of(name) },
            Parts::RandomMean { strength } => {
                Self { strength: Some(*strength), variant: text(RANDOM_MEAN), ..Self::default() }
            }
            Parts::RandomTwin { of: name } => Self { variant: text(RANDOM_TWIN), ..of(name) },
            Parts::Corrected { of: lens, correction } => Self { correction: text(correction), ..of(lens) },
            Parts::Scheduled { of, schedule, skipped } => Self {
                of: of.clone(),
                schedule: text(schedule),
                skipped_block: skipped.and_then(int),
                ..Self::default()
            },
            Parts::Step { of: name, step, anew } => {
                Self { step: int(*step), variant: anew.then(|| ANEW.to_owned()), ..of(name) }
            }
            Parts::Token { position, token } => {
                Self { position: int(*position), token: text(token), ..Self::default() }
            }
            Parts::Head { head, without } => {
                Self { head: int(*head), variant: without.clone(), ..Self::default() }
            }
            Parts::Set { of: probe, trained_on, tested_on } => {
                Self { trained_on: text(trained_on), tested_on: tested_on.clone(), ..of(probe) }
            }
            Parts::Variant { of: name, prompt, variant } => {
                Self { prompt: prompt.and_then(int), variant: variant.clone(), ..of(name) }
            }
            Parts::Component { component, head, neuron } => Self {
                component: text(component),
                head: head.and_then(int),
                neuron: neuron.and_then(int),
                ..Self::default()
            },
            Parts::Share { of: name, share } => Self { share: Some(*share), ..of(name) },
        }
    }
}

impl Columns {
    /// The subject that they are the parts of.
    pub(super) fn subject(self) -> Subject {
        let name = self.of.clone().unwrap_or_default();
        match self {
            Self { schedule: Some(schedule), of, skipped_block, .. } => {
                Parts::Scheduled { of, schedule, skipped: skipped_block.and_then(index) }.into()
            }
            Self { component: Some(component), head, neuron, .. } => {
                Parts::Component { component, head: head.and_then(index), neuron: neuron.and_then(index) }
                    .into()
            }
            Self { head: Some(head), variant, .. } => {
                Parts::Head { head: index(head).unwrap_or_default(), without: variant }.into()
            }
            Self { rung: Some(rung), .. } => Parts::Rung { of: name, rung }.into(),
            Self { less: Some(less), .. } => Parts::Less { of: name, less }.into(),
            Self { direction: Some(set), direction_number, .. } => {
                let direction = Direction { set, number: direction_number.and_then(index) };
                Parts::Without { of: name, direction }.into()
            }
            Self { strength: Some(strength), of: Some(of), .. } => Parts::Pushed { of, strength }.into(),
            Self { strength: Some(strength), of: None, .. } => Parts::RandomMean { strength }.into(),
            Self { correction: Some(correction), .. } => Parts::Corrected { of: name, correction }.into(),
            Self { step: Some(step), variant, .. } => {
                Parts::Step { of: name, step: index(step).unwrap_or_default(), anew: variant.is_some() }
                    .into()
            }
            Self { position: Some(position), token: Some(token), .. } => {
                Parts::Token { position: index(position).unwrap_or_default(), token }.into()
            }
            Self { trained_on: Some(trained_on), tested_on, .. } => {
                Parts::Set { of: name, trained_on, tested_on }.into()
            }
            Self { share: Some(share), .. } => Parts::Share { of: name, share }.into(),
            Self { variant: Some(twin), .. } if twin == RANDOM_TWIN => Parts::RandomTwin { of: name }.into(),
            Self { prompt: None, variant: None, .. } => name.into(),
            Self { prompt, variant, .. } => {
                Parts::Variant { of: name, prompt: prompt.and_then(index), variant }.into()
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One subject of every shape, with its text.
    pub(crate) fn every_shape() -> Vec<(Subject, &'static str)> {
        let text = |text: &str| text.to_owned();
        let shapes = [
            (Parts::Rung { of: text("s"), rung: text("rank-8") }, "s:rank-8"),
            (Parts::Less { of: text("tuned"), less: text("logit") }, "tuned less logit"),
            (
                Parts::Without {
                    of: text("a@b"),
                    direction: Direction { set: text("pca"), number: Some(3) },
                },
                "a@b@pca-3",
            ),
            (
                Parts::Without { of: text("model"), direction: Direction { set: text("pca"), number: None } },
                "model@pca",
            ),
            (Parts::Pushed { of: text("v"), strength: -0.5 }, "v@-0.5"),
            (Parts::RandomMean { strength: 0.25 }, "random-mean@+0.25"),
            (Parts::RandomTwin { of: text("thanks") }, "thanks-random"),
            (Parts::Corrected { of: text("a+b"), correction: text("shift") }, "a+b+shift"),
            (
                Parts::Scheduled { of: Some(text("tuned")), schedule: text("skip:3"), skipped: Some(3) },
                "skip:3|tuned",
            ),
            (Parts::Scheduled { of: None, schedule: text("swap:2,4"), skipped: None }, "swap:2,4"),
            (Parts::Step { of: text("thought"), step: 2, anew: false }, "thought@2"),
            (Parts::Step { of: text("zero"), step: 1, anew: true }, "zero@1+"),
            (Parts::Token { position: 3, token: text(":a:") }, "3::a:"),
            (Parts::Set { of: text("lda"), trained_on: text("a>b"), tested_on: None }, "lda:a>b"),
            (
                Parts::Set { of: text("lda"), trained_on: text("a>b"), tested_on: Some(text("c")) },
                "lda:a>b>c",
            ),
            (Parts::Variant { of: text("fixed"), prompt: Some(2), variant: None }, "fixed:2"),
            (
                Parts::Variant { of: text("fixed"), prompt: Some(2), variant: Some(text("mean")) },
                "fixed:2:mean",
            ),
            (Parts::Variant { of: text("next"), prompt: None, variant: Some(text("shared")) }, "next:shared"),
            (Parts::Share { of: text("components"), share: 0.9 }, "components-90"),
            (Parts::Component { component: text("head"), head: Some(5), neuron: None }, "head:5"),
            (Parts::Component { component: text("neuron"), head: None, neuron: Some(312) }, "neuron:312"),
            (Parts::Component { component: text("mlp"), head: None, neuron: None }, "mlp"),
            (Parts::Head { head: 5, without: None }, "H5"),
            (Parts::Head { head: 0, without: Some(text("mean")) }, "H0:mean"),
        ];
        let named = [("logit".into(), "logit"), ("a@2".into(), "a@2"), (Subject::default(), "")];
        shapes.into_iter().map(|(parts, text)| (parts.into(), text)).chain(named).collect()
    }

    #[test]
    fn every_subject_is_read_back_from_its_columns() {
        for (subject, text) in every_shape() {
            assert_eq!(subject, text);
            assert_eq!(Columns::from(&subject).subject(), subject, "{text}");
        }
    }
}
