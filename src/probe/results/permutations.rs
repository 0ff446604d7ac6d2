//! What permuted labels say, as rows.

use layerscope_probes::{Error, max_p_values, p_value};
use ndarray::Array2;

use super::{super::Estimator, Measured, layers::At, numbers::row};
use crate::results::run::{MetricRow, RowKind};

/// What permuted labels say: p of every probe, hook and layer, and p corrected for looking at all of them.
pub(super) fn p_rows(
    measured: &Measured<'_>,
    tested: &[(Estimator, String, At)],
) -> Result<Vec<MetricRow>, Error> {
    let values = |(estimator, hook, at): &(Estimator, String, At)| {
        let values = measured.cells[at.place].first()?.readings[estimator].permuted.clone()?;
        Some((
            estimator.name(),
            (hook.clone(), at.layer as i32),
            at.draws.alone(f64::NAN, "a p-value"),
            values,
        ))
    };
    let tested: Vec<_> = tested.iter().filter_map(values).collect();
    let Some((_, _, _, first)) = tested.first() else { return Ok(Vec::new()) };
    let observed: Vec<f64> = tested.iter().map(|(_, _, _, values)| values[0]).collect();
    let shape = (first.len() - 1, tested.len());
    let null = Array2::from_shape_fn(shape, |(permutation, test)| tested[test].3[permutation + 1]);
    let corrected = max_p_values(&observed, null.view())?;
    let mut rows = Vec::new();
    for (test, (name, (hook, layer), counts, values)) in tested.iter().enumerate() {
        let own = p_value(observed[test], &values[1..])?;
        for (metric, p) in [("p_value", own), ("p_value_corrected", corrected[test])] {
            rows.push(row(
                &(*name).into(),
                RowKind::Probe,
                (hook, *layer),
                metric,
                &counts.alone(p, "a p-value"),
            ));
        }
    }
    Ok(rows)
}
