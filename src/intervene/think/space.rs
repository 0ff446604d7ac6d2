//! Are states and embeddings one space? Every layer's states beside the token embeddings.
//!
//! A thought only makes sense as an input where the two are alike. Measured over text: the embedding of the state's own
//! token and of the next one ([`Geometry`]: linear CKA, Procrustes, cosines), and how much of the states' variance lies
//! in the span of the embedding matrix's first principal components, beside random subspaces of as many dimensions.
//! First tokens of document windows are left out (they are often sinks many times as long), and last ones, which have
//! no next.
//!
//! What all states make together has a delete-block jackknife over blocks of documents, whose moments are kept apart
//! where five or more fit into [`BYTES`].

use layerscope_lenses::{CrossMoments, Error, Geometry, Moments, Rows};
use layerscope_probes::interval::FEWEST;
use tch::{Device, Kind, Tensor};

use super::{Embeddings, ThinkError, embeddings::cosines};
use crate::{
    hook::HookPoint,
    model::Model,
    results::draw::normal,
    results::run::{MetricRow, Parts, RowKind, Subject},
    results::statistics::{Blocks, Estimate, Interval, Intervals, MOST_APART, Method, NoInterval, Tally},
    sources::text::Window,
    states::States,
};

/// Shares of the embedding matrix's variance whose principal components are tried.
const SHARES: [f64; 3] = [0.5, 0.9, 0.99];
/// Random subspaces of every size.
const DRAWS: usize = 20;
/// What the moments of all blocks of documents may take, bytes.
const BYTES: usize = 4 << 30;
/// Why large models have no intervals of what all states make together.
const TOO_LARGE: &str = "moments of five blocks of documents would take more than 4 GB";
/// The states' own token and the next one, as subjects.
const TARGETS: [&str; 2] = ["embedding", "next-embedding"];

/// How much of a variance lies in a subspace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Share of the embedding matrix's variance that the components hold.
    pub of_embeddings: f64,
    /// How many they are.
    pub components: usize,
}

impl Share {
    /// `components-90`.
    fn named(&self, what: &str) -> Subject {
        Parts::Share { of: what.to_owned(), share: self.of_embeddings }.into()
    }
}

/// Moments of layers and embeddings at the same positions of a text.
#[derive(Debug)]
pub struct Space {
    points: Vec<HookPoint>,
    n_layers: usize,
    /// Principal axes of the embedding matrix `[d, d]`, the first in column 0, f64.
    axes: Tensor,
    shares: Vec<Share>,
    all: Sums,
    /// The same of each block of documents; none where memory does not allow it.
    parts: Vec<Sums>,
    blocks: Blocks,
    intervals: Intervals,
    /// Cosines per point and target.
    tally: Tally,
    seed: u64,
}

/// Moments of some rows.
#[derive(Debug)]
struct Sums {
    states: Vec<Moments>,
    targets: [Moments; 2],
    /// Per point, with both targets.
    pairs: Vec<[CrossMoments; 2]>,
}

impl Sums {
    fn new(points: usize, d: usize, device: Device) -> Self {
        let moments = || Moments::new(d, device);
        let cross = || CrossMoments::new(d, d, device);
        Self {
            states: (0..points).map(|_| moments()).collect(),
            targets: [moments(), moments()],
            pairs: (0..points).map(|_| [cross(), cross()]).collect(),
        }
    }

    /// What [`Sums::new`] takes, bytes.
    fn bytes(points: usize, d: usize) -> usize {
        16 * d * d * (3 * points + 2)
    }

    /// Adds rows of every point's states, and the embeddings of both targets there.
    fn add(&mut self, states: &[Tensor], targets: &[Tensor; 2]) -> Result<(), Error> {
        let [own, next] = targets.each_ref().map(|rows| Rows::new("embeddings", rows));
        let targets = [own?, next?];
        for (moments, rows) in self.targets.iter_mut().zip(&targets) {
            moments.add(rows)?;
        }
        for ((x, moments), pairs) in states.iter().zip(&mut self.states).zip(&mut self.pairs) {
            let own = Rows::new("states", x)?;
            moments.add(&own)?;
            for (pairs, target) in pairs.iter_mut().zip(&targets) {
                pairs.add(&own, target)?;
            }
        }
        Ok(())
    }

    /// Of point `i`, without the rows of a part.
    fn states_without(&self, i: usize, part: &Self) -> Result<Moments, Error> {
        self.states[i].minus(&part.states[i])
    }

    /// Point `i` beside target `t`, without the rows of a part.
    fn pair(&self, i: usize, t: usize, part: Option<&Self>) -> Result<Geometry, Error> {
        let Some(part) = part else {
            return Geometry::new(&self.states[i], &self.targets[t], &self.pairs[i][t]);
        };
        let target = self.targets[t].minus(&part.targets[t])?;
        let pairs = self.pairs[i][t].minus(&part.pairs[i][t])?;
        Geometry::new(&self.states_without(i, part)?, &target, &pairs)
    }
}

/// What is measured of a pair, with the least and the most that it can be.
const MEASURES: [(&str, &str, [f64; 2]); 3] = [
    ("cka", "share", [0.0, 1.0]),
    ("procrustes_distance", "distance", [0.0, 2.0]),
    ("cosine_centred", "cosine", [-1.0, 1.0]),
];

impl Space {
    /// Of these layers; the last one's normalised states, which Coconut feeds, come with it. `48 d²` bytes of sums for
    /// a layer and as much for each block of the documents of `windows`, which are to be added.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn new(
        model: &Model,
        embeddings: &Embeddings,
        layers: &[usize],
        windows: &[Window],
        (seed, intervals): (u64, Intervals),
    ) -> Result<Self, ThinkError> {
        let (n_layers, d, device) = (model.spec().n_layers, model.spec().d_model, model.device());
        let mut points: Vec<HookPoint> = layers.iter().map(|layer| HookPoint::resid_pre(*layer)).collect();
        if layers.contains(&n_layers) {
            points.push(HookPoint::FinalNormalized);
        }
        let mut rows = Moments::new(d, device);
        rows.add(&Rows::new("embeddings", embeddings.vectors())?)?;
        let (axes, shares) = components(&rows.covariance()?)?;
        let most = (BYTES / Sums::bytes(points.len(), d).max(1)).min(MOST_APART);
        let segments = windows.iter().flat_map(|w| w.segments.iter().map(|s| (s.doc_id, s.len as usize)));
        let blocks = Blocks::new(segments, most.max(FEWEST as usize));
        let apart = if (most as f64) < FEWEST { 0 } else { blocks.len() };
        let sums = || Sums::new(points.len(), d, device);
        Ok(Self {
            n_layers,
            axes,
            shares,
            all: sums(),
            parts: (0..apart).map(|_| sums()).collect(),
            blocks,
            intervals,
            tally: Tally::new(vec![0; 2 * points.len()], 1, intervals)?,
            points,
            seed,
        })
    }

    /// Adds windows of one length. Returns how many positions counted.
    ///
    /// # Errors
    /// When the model cannot run, or a state is not finite.
    pub fn add(
        &mut self,
        model: &Model,
        embeddings: &Embeddings,
        windows: &[&Window],
    ) -> Result<usize, ThinkError> {
        let states = States::of(model, &self.points, windows)?;
        let (mut rows, mut start) = (Vec::new(), 0);
        for &len in &states.runs {
            rows.extend((start + 1..(start + len).saturating_sub(1)).map(|row| row as i64));
            start += len;
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let index = Tensor::from_slice(&rows);
        let tokens = |ahead: usize| -> Result<Tensor, ThinkError> {
            let ids: Vec<i64> = rows.iter().map(|row| states.ids[*row as usize + ahead]).collect();
            Ok(embeddings.lookup(&Tensor::from_slice(&ids))?.f_to_kind(Kind::Float)?)
        };
        let targets = [tokens(0)?, tokens(1)?];
        let docs: Vec<u64> = rows.iter().map(|row| states.docs[*row as usize]).collect();
        let index = index.to_device(model.device());
        let kept = states.layers.iter().map(|states| states.f_index_select(0, &index));
        let kept = kept.collect::<Result<Vec<_>, _>>()?;
        self.add_rows(&kept, &targets, &docs)?;
        let mut columns = Vec::new();
        for x in &kept {
            for values in &targets {
                columns.push(cosines(x, values)?);
            }
        }
        self.take(&columns, &docs)?;
        Ok(rows.len())
    }

    /// To the sums of all rows, and to those of their blocks.
    fn add_rows(&mut self, states: &[Tensor], targets: &[Tensor; 2], docs: &[u64]) -> Result<(), ThinkError> {
        self.all.add(states, targets)?;
        if self.parts.is_empty() {
            return Ok(());
        }
        for (block, from, rows) in self.blocks.runs(docs) {
            let narrow = |t: &Tensor| t.f_narrow(0, from as i64, rows as i64);
            let states = states.iter().map(narrow).collect::<Result<Vec<_>, _>>()?;
            self.parts[block].add(&states, &[narrow(&targets[0])?, narrow(&targets[1])?])?;
        }
        Ok(())
    }

    fn take(&mut self, columns: &[Vec<f64>], docs: &[u64]) -> Result<(), ThinkError> {
        let mut start = 0;
        for run in docs.chunk_by(|a, b| a == b) {
            let sum = |column: &Vec<f64>| column[start..start + run.len()].iter().sum::<f64>();
            self.tally.add(run[0], &columns.iter().map(sum).collect::<Vec<_>>(), &[run.len() as f64])?;
            start += run.len();
        }
        Ok(())
    }

    /// The subspaces of the embedding matrix that are tried.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Every number by layer. `lower` and `upper` of kind `space-random`, random subspaces, are the range of their
    /// draws and no interval.
    ///
    /// # Errors
    /// When nothing was added.
    pub fn finish(&mut self) -> Result<Vec<MetricRow>, ThinkError> {
        let randoms = self.randoms()?;
        let cosines: Vec<Estimate> =
            (0..2 * self.points.len()).map(|c| self.tally.scores().estimate(c)).collect();
        let n_clusters = cosines.first().map_or(0, |c| c.n_clusters);
        let mut rows = Vec::new();
        for share in &self.shares {
            let number = Estimate::alone(share.components as f64, "of the embedding matrix", 0);
            let row = MetricRow::of("components", "dimensions", number);
            rows.push(MetricRow {
                subject: share.named("components"),
                kind: RowKind::Space,
                hook: "embed".into(),
                ..row
            });
        }
        for (i, point) in self.points.iter().enumerate() {
            let n = self.all.states[i].n() as u64;
            let mut add =
                |subject: Subject, kind: RowKind, (metric, unit): (&str, &str), number: Estimate| {
                    rows.push(MetricRow {
                        subject,
                        kind,
                        hook: point.short_name().into(),
                        layer: point.layer(self.n_layers) as i32,
                        ..MetricRow::of(metric, unit, Estimate { n_clusters, ..number })
                    });
                };
            for (t, subject) in TARGETS.into_iter().enumerate() {
                for (metric, unit, number) in self.likeness(i, t)? {
                    add(subject.into(), RowKind::Space, (metric, unit), number);
                }
                add(subject.into(), RowKind::Space, ("cosine", "cosine"), cosines[2 * i + t]);
            }
            let metric = ("variance_share", "share");
            for (share, own, [estimate, lower, upper]) in self.inside(i, &randoms)? {
                add(share.named("components"), RowKind::Space, metric, own);
                let interval = Ok(Interval { lower, upper });
                let number = Estimate { interval, ..Estimate::alone(estimate, "random subspaces", n) };
                add(share.named("random"), RowKind::SpaceRandom, metric, number);
            }
        }
        Ok(rows)
    }

    /// A function of the sums without each block of documents, where that makes an interval.
    fn without_each<T>(&self, f: impl Fn(&Sums) -> Result<T, Error>) -> Result<Vec<T>, Error> {
        let enough = self.blocks.n_eff() >= FEWEST && self.intervals.method() == Method::Jackknife;
        let parts = if enough { &self.parts[..] } else { &[] };
        parts.iter().map(f).collect()
    }

    /// A number of point `i` with its interval, from its values without each block.
    fn number(&self, i: usize, estimate: f64, left_out: &[f64], range: [f64; 2]) -> Estimate {
        let interval = if self.parts.is_empty() {
            Err(NoInterval::NotSampled(TOO_LARGE))
        } else {
            self.blocks.interval(estimate, left_out, range, self.intervals)
        };
        let (n, n_clusters) = (self.all.states[i].n() as u64, self.blocks.documents() as u64);
        Estimate { estimate, interval, n, n_clusters, n_eff: self.blocks.n_eff() }
    }

    /// Similarities of a point's states with a target's embeddings; those that are defined.
    fn likeness(
        &self,
        i: usize,
        t: usize,
    ) -> Result<Vec<(&'static str, &'static str, Estimate)>, ThinkError> {
        let measures = |part: Option<&Sums>| -> Result<[f64; 3], Error> {
            let pair = self.all.pair(i, t, part)?;
            Ok([pair.cka()?, pair.procrustes_distance()?, pair.cosine()?])
        };
        let (values, without) = (measures(None)?, self.without_each(|part| measures(Some(part)))?);
        let number = |(place, (name, unit, range)): (usize, (&'static str, &'static str, [f64; 2]))| {
            let left_out: Vec<f64> = without.iter().map(|values| values[place]).collect();
            (name, unit, self.number(i, values[place], &left_out, range))
        };
        Ok(MEASURES.into_iter().enumerate().map(number).filter(|(.., e)| e.estimate.is_finite()).collect())
    }

    /// Of every subspace what it holds of a point's variance, and mean, least and most of random ones; none where
    /// nothing varies.
    fn inside(&self, i: usize, randoms: &[Tensor]) -> Result<Vec<(Share, Estimate, [f64; 3])>, ThinkError> {
        let covariance = self.all.states[i].covariance()?;
        let without = self.without_each(|part| self.all.states_without(i, part)?.covariance())?;
        let mut found = Vec::new();
        for &share in &self.shares {
            let holds = |covariance: &Tensor| inside(covariance, &self.axes, share.components);
            let left_out = without.iter().map(holds).collect::<Result<Vec<_>, _>>()?;
            let own = self.number(i, holds(&covariance)?, &left_out, [0.0, 1.0]);
            let drawn = randoms.iter().map(|axes| inside(&covariance, axes, share.components));
            let drawn = drawn.collect::<Result<Vec<_>, _>>()?;
            let ends =
                drawn.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), x| (low.min(*x), high.max(*x)));
            if own.estimate.is_finite() {
                found.push((share, own, [drawn.iter().sum::<f64>() / DRAWS as f64, ends.0, ends.1]));
            }
        }
        Ok(found)
    }

    /// Orthonormal bases drawn evenly, `[d, d]` each: their first columns span the random subspaces.
    fn randoms(&self) -> Result<Vec<Tensor>, ThinkError> {
        let d = self.axes.size()[0];
        let one = |i: usize| -> Result<Tensor, ThinkError> {
            let numbers: Vec<f64> = (0..(d * d) as u64).map(|j| normal(self.seed, 1 + i as u64, j)).collect();
            let square = Tensor::from_slice(&numbers).f_view([d, d])?.to_device(self.axes.device());
            Ok(Tensor::f_linalg_qr(&square, "reduced")?.0)
        };
        (0..DRAWS).map(one).collect()
    }
}

/// Principal axes of a covariance, the first in column 0, and how many hold each of [`SHARES`].
fn components(covariance: &Tensor) -> Result<(Tensor, Vec<Share>), Error> {
    let (values, axes) = covariance.f_linalg_eigh("L")?;
    let (values, axes) = (values.f_flip([0])?.f_clamp_min(0.0)?, axes.f_flip([1])?);
    let values = Vec::<f64>::try_from(values.to_device(Device::Cpu))?;
    let all: f64 = values.iter().sum();
    let count = |share: f64| {
        let mut sum = 0.0;
        let reached = values.iter().position(|value| {
            sum += value;
            sum >= share * all * (1.0 - 1e-12)
        });
        Share { of_embeddings: share, components: reached.map_or(values.len(), |place| place + 1) }
    };
    Ok((axes, SHARES.map(count).to_vec()))
}

/// `tr(Vᵀ C V) / tr C` of the first `k` columns `V` of `axes`.
fn inside(covariance: &Tensor, axes: &Tensor, k: usize) -> Result<f64, Error> {
    let first = axes.f_narrow(1, 0, k as i64)?;
    let part = first.f_mul(&covariance.f_matmul(&first)?)?.f_sum(Kind::Double)?.double_value(&[]);
    Ok(part / covariance.f_trace()?.double_value(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_left_out_as_if_it_were_not_there() {
        let rows = |stream: u64, n: u64| {
            let numbers: Vec<f32> = (0..4 * n).map(|i| normal(3, stream, i) as f32).collect();
            Tensor::from_slice(&numbers).view([-1, 4])
        };
        let of = |parts: &[u64]| {
            let mut sums = Sums::new(1, 4, Device::Cpu);
            for part in parts {
                let (x, noise) = (rows(*part, 20 + part), rows(10 + part, 20 + part));
                sums.add(&[&x * 2.0 + 1.0], &[&x + &noise, noise]).unwrap();
            }
            sums
        };
        let (all, part, rest) = (of(&[1, 2, 3]), of(&[2]), of(&[1, 3]));
        for target in 0..2 {
            let (a, b) = (all.pair(0, target, Some(&part)).unwrap(), rest.pair(0, target, None).unwrap());
            let measures =
                |g: &Geometry| [g.cka().unwrap(), g.procrustes_distance().unwrap(), g.cosine().unwrap()];
            // f64 sums of 65 rows: a few hundred roundings of 1e-16.
            assert!(measures(&a).iter().zip(measures(&b)).all(|(a, b)| (a - b).abs() < 1e-12));
            assert!(measures(&a)[0] != measures(&all.pair(0, target, None).unwrap())[0]);
        }
        let (a, b) = (all.states_without(0, &part).unwrap(), &rest.states[0]);
        let off = (a.covariance().unwrap() - b.covariance().unwrap()).abs().max().double_value(&[]);
        assert!(off < 1e-12 && a.n() == b.n(), "{off}");
    }

    #[test]
    fn components_and_shares_by_hand() {
        // Variances 6, 3, 1 of 10 along axes 1, 2, 0: one component holds half, two hold 0.9, three 0.99.
        let covariance = Tensor::from_slice(&[1.0_f64, 6.0, 3.0]).diag(0);
        let (axes, shares) = components(&covariance).unwrap();
        assert_eq!(shares.iter().map(|s| s.components).collect::<Vec<_>>(), [1, 2, 3]);
        // Another's variances 5, 3, 2: 3/10 along the first axis, (3 + 2)/10 along two, all along three.
        let other = Tensor::from_slice(&[5.0_f64, 3.0, 2.0]).diag(0);
        for (share, expected) in shares.iter().zip([0.3, 0.5, 1.0]) {
            assert!((inside(&other, &axes, share.components).unwrap() - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_random_subspace_holds_its_share_of_the_dimensions() {
        let d = 24;
        let numbers: Vec<f64> = (0..d * d).map(|i| normal(3, 0, i as u64)).collect();
        let square = Tensor::from_slice(&numbers).view([d, d]);
        let covariance = square.matmul(&square.tr());
        let draw = |i: u64| {
            let numbers: Vec<f64> = (0..d * d).map(|j| normal(5, i, j as u64)).collect();
            Tensor::linalg_qr(&Tensor::from_slice(&numbers).view([d, d]), "reduced").0
        };
        let mean = (0..60).map(|i| inside(&covariance, &draw(i), 6).unwrap()).sum::<f64>() / 60.0;
        assert!((mean - 6.0 / 24.0).abs() < 0.02, "{mean}"); // one draw has a standard deviation of about 0.06
    }
}
