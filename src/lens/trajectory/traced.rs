//! A trajectory as a trace, which needs no model any more.

use super::{LensTrace, TraceCell, Tracked, Trajectory};

/// From readings, and the probabilities of the tokens `wanted` (per position) at every layer and position.
pub(super) fn lens_trace(read: &Trajectory, wanted: &[Vec<i64>], probs: &[Vec<Vec<f64>>]) -> LensTrace {
    let compared = wanted.len() + 1 - read.horizon.min(wanted.len() + 1);
    let cell = |layer: usize, i: usize| {
        let r = &read.readings[layer];
        let ids =
            |ids: &[i64], probs: &[f64]| ids.iter().map(|id| *id as u32).zip(probs.iter().copied()).collect();
        TraceCell {
            top: ids(&r.top_ids[i], &r.top_probs[i]),
            entropy: r.entropy[i],
            kl: (i < compared).then(|| r.kl[i]),
            ce: r.ce[i],
            rank_of_final: (i < compared).then(|| r.rank_of_final[i]),
            rank_of_true: r.rank_of_true[i],
            tracked: ids(&wanted[i], &probs[layer][i]),
        }
    };
    LensTrace {
        lens: read.lens.clone(),
        horizon: read.horizon,
        layers: read.layers.iter().map(|layer| layer.0).collect(),
        cells: (0..read.layers.len()).map(|l| (0..wanted.len()).map(|i| cell(l, i)).collect()).collect(),
    }
}

/// Per position, the tokens to follow, ascending by id.
pub(super) fn wanted(read: &Trajectory, truth: &[i64], tracked: Tracked) -> Vec<Vec<i64>> {
    let of = |i: usize| {
        let kept = |ids: &Vec<Vec<i64>>| match tracked {
            Tracked::First => ids[i].iter().take(1).copied().collect::<Vec<_>>(),
            Tracked::Top => ids[i].clone(),
        };
        let mut ids: Vec<i64> = read.readings.iter().flat_map(|r| kept(&r.top_ids)).collect();
        ids.extend(truth[i..].first().filter(|id| **id >= 0));
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    (0..truth.len()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::PromptToken, *};
    use layerscope_lenses::{LayerIndex, stats::Readings};

    #[test]
    fn tokens_to_follow_are_the_first_of_any_layer_and_the_true_one() {
        let layer = |ids: [[i64; 2]; 2]| Readings {
            top_ids: ids.map(Vec::from).into(),
            top_probs: vec![vec![0.5, 0.2]; 2],
            entropy: vec![1.0; 2],
            kl: vec![0.5; 2],
            rank_of_final: vec![0; 2],
            rank_of_true: vec![Some(3), None],
            ce: vec![Some(2.0), None],
            ..Readings::default()
        };
        let read = Trajectory {
            lens: "future".into(),
            horizon: 2,
            layers: [0, 1].map(LayerIndex).to_vec(),
            readings: vec![layer([[7, 5], [2, 3]]), layer([[4, 7], [2, 9]])],
        };
        assert_eq!(wanted(&read, &[6, -1], Tracked::First), [vec![4, 6, 7], vec![2]]);
        let all = wanted(&read, &[6, -1], Tracked::Top);
        assert_eq!(all, [vec![4, 5, 6, 7], vec![2, 3, 9]]);
        let probs = vec![vec![vec![0.1, 0.2, 0.3, 0.4], vec![0.1, 0.2, 0.3]]; 2];
        let mut trace = lens_trace(&read, &all, &probs);
        // Two tokens, two ahead: the model's own prediction is known for the first position only.
        assert_eq!([trace.cells[1][0].kl, trace.cells[1][1].kl], [Some(0.5), None]);
        let token = |id| PromptToken { id, text: String::new() };
        trace.keep_first_tokens(&[token(1), token(2), token(6)][..2]);
        assert_eq!(trace.cells[0][0].tracked, [(4, 0.1), (7, 0.4)]); // two ahead lies behind the end
        assert_eq!(trace.cells[1][1].tracked, [(2, 0.1)]);
    }
}
