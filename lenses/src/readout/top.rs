//! The largest logits of every row.

/// How many logits of a row are computed again.
pub(super) const TOP: usize = 16;

/// The largest logits of a row so far, in descending order; of equals the smallest ids.
#[derive(Clone, Copy)]
pub(super) struct Top {
    pub(super) values: [f32; TOP],
    /// -1 where there are fewer.
    pub(super) ids: [i64; TOP],
}

impl Default for Top {
    fn default() -> Self {
        Self { values: [f32::NEG_INFINITY; TOP], ids: [-1; TOP] }
    }
}

impl Top {
    /// Takes in the logits `z` of the tokens from `first` on, whose largest is `max`.
    pub(super) fn take(&mut self, z: &[f32], first: i64, max: f32) {
        if max <= self.values[TOP - 1] {
            return;
        }
        for (id, &value) in (first..).zip(z) {
            if value > self.values[TOP - 1] {
                let place = self.values.iter().position(|v| value > *v).unwrap_or(TOP - 1);
                self.values[place..].rotate_right(1);
                self.ids[place..].rotate_right(1);
                (self.values[place], self.ids[place]) = (value, id);
            }
        }
    }
}
