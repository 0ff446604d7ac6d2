//! Directions from pairs of texts that differ in one thing: the mean of their differences, and its first principal
//! component.

use std::path::Path;

use layerscope_probes::interval::{jackknife, share};
use tch::{Kind, Tensor};

use super::SteerError;
use crate::{
    hook::HookPoint,
    model::Model,
    results::run::{MetricRow, RowKind},
    results::statistics::{Blocks, Estimate, Intervals, MOST_APART, Method, NO_BOOTSTRAP, Tally},
    results::words::counted,
    sources::text::{
        Format, Segment, Tokenizer, Window, excerpt,
        reader::{Columns, RecordCell, open_file},
    },
    states::States,
    watch::Underway,
};

/// Texts that say a thing, each with one that says its opposite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairs {
    /// `[positive, negative]`.
    pub texts: Vec<[String; 2]>,
}

/// What a layer's states say of the pairs, read at the last token of each text.
#[derive(Debug)]
pub struct Differences {
    /// The layer.
    pub layer: usize,
    /// Mean of positive less negative, `[d_model]`, f64 (Rimsky et al. 2024, 2312.06681).
    pub mean: Tensor,
    /// First principal component of the differences, which are not centred, as each could as well have the other sign;
    /// it points where the mean does (Zou et al. 2023, 2310.01405). `[d_model]`, f64.
    pub pca: Tensor,
    /// The share of the differences' squared length that lies along it.
    pub explained: f64,
    /// The same without each of at most 32 blocks of neighbouring pairs.
    without: Vec<f64>,
    blocks: Blocks,
    /// Of every pair the cosine of its difference with the mean of all others'.
    pub consistency: Vec<f64>,
}

impl Pairs {
    /// Reads the columns `positive` and `negative` of a `.csv`, `.tsv`, `.jsonl`, `.json` or `.parquet`.
    ///
    /// # Errors
    /// [`SteerError::Text`], [`SteerError::Pairs`] naming the row: a missing or empty text, fewer than three pairs.
    pub fn open(path: &Path) -> Result<Self, SteerError> {
        let columns = Columns { text: "positive".into(), others: vec!["negative".into()], chats: false };
        let mut texts = Vec::new();
        for row in open_file(path, Format::of(path)?, &columns)? {
            let row = row?;
            let negative = row.cells.first().and_then(RecordCell::name).unwrap_or_default();
            if row.text.trim().is_empty() || negative.trim().is_empty() {
                let reason = "a pair needs a positive and a negative text".to_owned();
                return Err(SteerError::Pairs { place: row.place, reason });
            }
            texts.push([row.text, negative]);
        }
        if texts.len() < 3 {
            let reason = format!("{} given, at least 3 are needed", counted(texts.len(), "pair"));
            return Err(SteerError::Pairs { place: path.display().to_string(), reason });
        }
        Ok(Self { texts })
    }

    /// Runs every text and compares, at `layers`. `rows` are the tokens of a pass; `stage` counts tokens.
    ///
    /// # Errors
    /// A text that the model cannot read, and as [`States::each`].
    pub fn differences(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        layers: &[usize],
        rows: usize,
        stage: &Underway<'_>,
    ) -> Result<Vec<Differences>, SteerError> {
        let texts: Vec<&String> = self.texts.iter().flatten().collect();
        let windows: Vec<Window> =
            tokenizer.encode_batch(&texts)?.into_iter().enumerate().map(window).collect();
        if let Some(empty) = windows.iter().position(|window| window.ids.is_empty()) {
            let place = format!("pair {}", empty / 2 + 1);
            return Err(SteerError::Pairs { place, reason: "a text without tokens".into() });
        }
        let context = model.spec().n_ctx;
        if let Some(long) = windows.iter().position(|window| window.ids.len() > context) {
            let (text, n) = (excerpt(texts[long]), windows[long].ids.len());
            let place = format!("pair {}", long / 2 + 1);
            let reason = format!("{text} has {n} tokens, the model's context is {context}");
            return Err(SteerError::Pairs { place, reason });
        }
        between(model, &windows, layers, rows, stage)
    }
}

/// Differences of windows that are positive and negative by turns.
pub(super) fn between(
    model: &Model,
    windows: &[Window],
    layers: &[usize],
    rows: usize,
    stage: &Underway<'_>,
) -> Result<Vec<Differences>, SteerError> {
    let windows: Vec<&Window> = windows.iter().collect();
    let points: Vec<HookPoint> = layers.iter().map(|layer| HookPoint::resid_pre(*layer)).collect();
    let mut last: Vec<Vec<Tensor>> = layers.iter().map(|_| Vec::new()).collect();
    let mut order = Vec::new();
    States::each::<SteerError>(model, &points, (&windows, rows), stage, |states, places| {
        let mut end = 0;
        let ends: Vec<i64> = places
            .iter()
            .map(|place| {
                end += windows[*place].ids.len() as i64;
                end - 1
            })
            .collect();
        let ends = Tensor::from_slice(&ends).to_device(states.last.device());
        for (kept, states) in last.iter_mut().zip(&states.layers) {
            kept.push(states.f_index_select(0, &ends)?.to_kind(Kind::Double).to_device(tch::Device::Cpu));
        }
        order.extend(places.iter().map(|place| *place as i64));
        Ok(())
    })?;
    // Back into the order of the file: positive and negative by turns.
    let back = Tensor::from_slice(&order).argsort(0, false);
    let of = |(layer, parts): (&usize, Vec<Tensor>)| {
        let states = Tensor::f_cat(&parts, 0)?.f_index_select(0, &back)?;
        let d_model = states.size()[1];
        let paired = states.f_view([-1, 2, d_model])?;
        Differences::of(*layer, &(paired.select(1, 0) - paired.select(1, 1)))
    };
    layers.iter().zip(last).map(of).collect()
}

/// The largest of some squared lengths over all of them.
fn explained(lengths: &Tensor) -> f64 {
    let squares = lengths.square();
    let all = squares.sum(Kind::Double).double_value(&[]);
    if all > 0.0 { squares.double_value(&[0]) / all } else { 0.0 }
}

/// A text of its own.
pub(super) fn window((place, ids): (usize, Vec<u32>)) -> Window {
    let len = ids.len() as u32;
    let doc_id = place as u64;
    Window {
        ids,
        segments: vec![Segment { doc_id, doc_pos: 0, doc_len: len, offset: 0, len, ..Segment::default() }],
    }
}

impl Differences {
    /// Of differences `[pairs, d_model]`, f64.
    fn of(layer: usize, rows: &Tensor) -> Result<Self, SteerError> {
        let pairs = rows.size()[0] as f64;
        let mean = rows.mean_dim([0_i64].as_slice(), false, Kind::Double);
        let (_, lengths, right) = rows.f_svd(true, true)?;
        let first = right.f_select(1, 0)?;
        let sign = if first.dot(&mean).double_value(&[]) < 0.0 { -1.0 } else { 1.0 };
        let explained = explained(&lengths);
        let blocks = Blocks::new((0..rows.size()[0] as u64).map(|pair| (pair, 1)), MOST_APART);
        let without = (0..blocks.len()).map(|block| {
            let others: Vec<i64> =
                (0..rows.size()[0]).filter(|pair| blocks.of(*pair as u64) != block).collect();
            Ok(self::explained(&rows.f_index_select(0, &Tensor::from_slice(&others))?.f_svd(true, false)?.1))
        });
        let without = without.collect::<Result<Vec<f64>, SteerError>>()?;
        let others = (&mean * pairs - rows) / (pairs - 1.0);
        let cosine = Tensor::f_cosine_similarity(rows, &others, 1, 1e-12)?;
        let consistency = Vec::<f64>::try_from(cosine)?;
        Ok(Self { layer, mean, pca: first * sign, explained, without, blocks, consistency })
    }

    /// `consistency` and `explained`, each with an interval over pairs, of subject `pairs`.
    ///
    /// # Errors
    /// A number that is not finite.
    pub fn rows(&self, intervals: Intervals) -> Result<Vec<MetricRow>, SteerError> {
        let mut tally = Tally::new(vec![0], 1, intervals)?;
        for (pair, cosine) in self.consistency.iter().enumerate() {
            tally.add(pair as u64, &[*cosine], &[1.0])?;
        }
        let n = self.consistency.len() as u64;
        let n_eff = self.blocks.n_eff();
        let interval = match intervals.method() {
            Method::Bootstrap => Err(NO_BOOTSTRAP),
            Method::Jackknife => {
                jackknife(&self.without, n_eff).and_then(|spread| share(self.explained, spread, n as f64))
            }
        };
        let explained = Estimate { estimate: self.explained, interval, n, n_clusters: n, n_eff };
        let row = |metric: &str, unit: &str, number: Estimate| MetricRow {
            subject: "pairs".into(),
            kind: RowKind::SteerPairs,
            hook: "resid_pre".into(),
            layer: self.layer as i32,
            ..MetricRow::of(metric, unit, number)
        };
        Ok(vec![
            row("consistency", "cosine", tally.scores().estimate(0)),
            row("explained", "share", explained),
        ])
    }
}
