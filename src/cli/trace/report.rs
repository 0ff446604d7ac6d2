//! The maps of one pair of prompts: tables, JSON.

use std::fmt::Write as _;

use layerscope::{
    intervene::patch::{Levels, MEASURES, Map},
    job::intervene::Trace,
};

use crate::cli::table::Table;

/// A map per hook: layers from the top down, positions across.
pub(super) fn table(
    job: &Trace,
    levels: &Levels,
    maps: &[Map],
    tokens: &[String],
    piece: &dyn Fn(i64) -> String,
) -> String {
    let m = job.metric as usize;
    let (metric, unit) = MEASURES[m];
    let mut text = format!(
        "{metric} of {:?} against {:?}: clean {:.4}, corrupted {:.4} {unit}\neffect of a patch: 0 as corrupted, 1 as clean\n",
        piece(levels.answer),
        piece(levels.foil),
        levels.clean[m],
        levels.corrupted[m]
    );
    if levels.effect(m, 0.0).is_none() {
        return text + "the two runs do not differ in this: nothing to patch";
    }
    for map in maps {
        let headers = tokens.iter().enumerate().map(|(i, t)| format!("{i}:{t}"));
        let mut table = Table::new(["layer".to_owned()].into_iter().chain(headers));
        for (layer, values) in map.layers.iter().rev() {
            let cell = |v: &[f64; 3]| {
                levels
                    .effect(m, v[m])
                    .map_or_else(String::new, |e| format!("{:.2}", if e.abs() < 0.005 { 0.0 } else { e }))
            };
            table.row([layer.to_string()].into_iter().chain(values.iter().map(cell)));
        }
        let _ = write!(text, "\n{}\n{table}", map.hook.short_name());
    }
    text.trim_end().to_owned()
}
