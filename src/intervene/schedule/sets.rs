//! Schedules that are compared together.

use super::{Named, ScheduleError, parse};

fn named(text: String, n_layers: usize, seed: u64) -> Result<Named, ScheduleError> {
    let schedule = parse(&text, n_layers, seed)?;
    Ok(Named { name: text, schedule })
}

/// Every block left out alone (Lad et al. 2024).
///
/// # Errors
/// None for a model with blocks.
pub fn deletions(n_layers: usize) -> Result<Vec<Named>, ScheduleError> {
    (0..n_layers).map(|block| named(format!("skip:{block}"), n_layers, 0)).collect()
}

/// The middle blocks, all but the first and the last `margin`: skipped, one of them in place of each, backwards,
/// shuffled, side by side, and side by side three times (Sun et al. 2024, "Transformer Layers as Painters").
///
/// # Errors
/// When fewer than two blocks are left between the margins.
pub fn painters(n_layers: usize, margin: usize, seed: u64) -> Result<Vec<Named>, ScheduleError> {
    let (first, end) = (margin, n_layers.saturating_sub(margin));
    if first + 2 > end {
        return Err(ScheduleError::Syntax {
            schedule: format!("painters with a margin of {margin}"),
            reason: format!("of {n_layers} blocks fewer than two are in the middle"),
        });
    }
    let range = format!("{first}-{}", end - 1);
    let mut all = Vec::new();
    for text in [
        format!("skip:{range}"),
        format!("reverse:{range}"),
        format!("shuffle:{range}"),
        format!("parallel:{range}"),
        format!("loop-parallel:{range}x3"),
    ] {
        all.push(named(text, n_layers, seed)?);
    }
    let (middle, times) = (n_layers / 2, end - first);
    let around = |range: std::ops::Range<usize>| range.map(|i| i.to_string()).collect::<Vec<_>>();
    let steps = [around(0..first), vec![format!("{middle}x{times}")], around(end..n_layers)].concat();
    let repeat = Named { name: format!("middle-repeat:{range}"), ..named(steps.join(","), n_layers, seed)? };
    all.insert(1, repeat);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_by_hand() {
        let all = deletions(3).unwrap();
        assert_eq!(all[1].name, "skip:1");
        assert_eq!(all.iter().map(|n| n.schedule.to_string()).collect::<Vec<_>>(), ["1,2", "0,2", "0,1"]);
        let all = painters(8, 2, 1).unwrap();
        let shown: Vec<String> = all.iter().map(|n| format!("{} = {}", n.name, n.schedule)).collect();
        assert_eq!(shown[0], "skip:2-5 = 0,1,6,7");
        assert_eq!(shown[1], "middle-repeat:2-5 = 0,1,4,4,4,4,6,7");
        assert_eq!(shown[2], "reverse:2-5 = 0,1,5,4,3,2,6,7");
        assert_eq!(shown[4], "parallel:2-5 = 0,1,[2|3|4|5],6,7");
        assert_eq!(shown[5], "loop-parallel:2-5x3 = 0,1,[2|3|4|5],[2|3|4|5],[2|3|4|5],6,7");
        assert!(painters(6, 0, 0).unwrap()[0].schedule.steps().is_empty());
        let error = painters(6, 3, 0).unwrap_err().to_string();
        assert_eq!(
            error,
            "schedule `painters with a margin of 3`: of 6 blocks fewer than two are in the middle"
        );
    }
}
