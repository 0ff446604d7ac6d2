//! Preconditioned L-BFGS for smooth functions.

use std::collections::VecDeque;

/// How an optimisation ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Convergence {
    /// Steps taken.
    pub iterations: usize,
    /// Evaluations of the objective with its gradient: one pass over the rows each.
    pub evaluations: usize,
    /// The objective at the end.
    pub objective: f64,
    /// Euclidean norm of its gradient there, in the coordinates of the optimiser.
    pub gradient: f64,
    /// Estimated distance to the minimum relative to the objective, `½ gᵀ B g / J`: the larger of the estimates with
    /// `B` the inverse Hessian of L-BFGS and that of the preconditioner.
    pub gap: f64,
    /// Whether `gap` is within the tolerance.
    pub converged: bool,
}

/// A function to minimise: convex, or at least smooth, where a local minimum is what is wanted.
pub trait Objective {
    /// The value at `x`, and its gradient there.
    fn evaluate(&mut self, x: &[f64], gradient: &mut [f64]) -> f64;

    /// Multiplies by an approximate inverse Hessian, symmetric and positive.
    fn precondition(&self, v: &mut [f64]);
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// At this [`Convergence::gap`].
    pub gap: f64,
    /// After so many steps.
    pub iterations: usize,
    /// With the step in which so many evaluations are reached.
    pub evaluations: usize,
}

/// Pairs of a step and a change of gradient that are kept.
const MEMORY: usize = 20;

/// What rounding may add to an objective, relative to it.
const NOISE: f64 = 1e-8;

/// A point with its value and gradient.
struct Point {
    x: Vec<f64>,
    gradient: Vec<f64>,
    value: f64,
}

#[derive(Debug)]
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// `1 / stepᵀ change`
    rho: f64,
}

/// What was seen of the Hessian. It serves another objective too, once told how that differs.
#[derive(Debug, Default)]
pub struct Memory(VecDeque<Pair>);

impl Memory {
    /// The Hessian has become larger by a diagonal matrix.
    pub(crate) fn add(&mut self, diagonal: &[f64]) {
        for pair in &mut self.0 {
            pair.change.iter_mut().zip(&pair.step).zip(diagonal).for_each(|((c, s), d)| *c += d * s);
            pair.rho = 1.0 / dot(&pair.step, &pair.change);
        }
        self.0.retain(|pair| pair.rho.is_finite() && pair.rho > 0.0);
    }
}

/// Minimises from `x` on, which becomes the last point (Nocedal and Wright 2006, algorithm 7.5).
pub fn minimise(
    objective: &mut impl Objective,
    x: &mut Vec<f64>,
    memory: &mut Memory,
    stop: Stop,
) -> Convergence {
    let pairs = &mut memory.0;
    let mut at = Point { gradient: vec![0.0; x.len()], x: std::mem::take(x), value: 0.0 };
    at.value = objective.evaluate(&at.x, &mut at.gradient);
    let (mut iterations, mut evaluations) = (0, 1);
    let (gap, converged) = loop {
        let direction = direction(objective, pairs, &at.gradient);
        let gap = gap(objective, &at, &direction);
        let spent = iterations == stop.iterations || evaluations >= stop.evaluations;
        if gap <= stop.gap || spent {
            break (gap, gap <= stop.gap);
        }
        let Some((next, tries)) = search(objective, &at, &direction) else { break (gap, false) };
        (iterations, evaluations) = (iterations + 1, evaluations + tries);
        remember(pairs, &at, &next);
        at = next;
    };
    *x = at.x;
    let gradient = dot(&at.gradient, &at.gradient).sqrt();
    Convergence { iterations, evaluations, objective: at.value, gradient, gap, converged }
}

/// `-B g`, by the two loops.
fn direction(objective: &impl Objective, pairs: &VecDeque<Pair>, gradient: &[f64]) -> Vec<f64> {
    let mut v: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let alpha = pair.rho * dot(&pair.step, &v);
        add(&mut v, -alpha, &pair.change);
        alphas.push(alpha);
    }
    objective.precondition(&mut v);
    if let Some(last) = pairs.back() {
        let mut changed = last.change.clone();
        objective.precondition(&mut changed);
        let scale = 1.0 / (last.rho * dot(&last.change, &changed));
        for v in &mut v {
            *v *= scale;
        }
    }
    for (pair, alpha) in pairs.iter().zip(alphas.iter().rev()) {
        let beta = pair.rho * dot(&pair.change, &v);
        add(&mut v, alpha - beta, &pair.step);
    }
    v
}

fn gap(objective: &impl Objective, at: &Point, direction: &[f64]) -> f64 {
    let mut v = at.gradient.clone();
    objective.precondition(&mut v);
    let distance = 0.5 * dot(&at.gradient, &v).max(-dot(&at.gradient, direction));
    if distance == 0.0 { 0.0 } else { distance / at.value.abs() }
}

/// A step that satisfies the approximate Wolfe conditions of Hager and Zhang (2005), which look at slopes: near the
/// minimum the differences of values drown in rounding. `None` when there is none within 40 tries.
fn search(objective: &mut impl Objective, from: &Point, direction: &[f64]) -> Option<(Point, usize)> {
    let slope = dot(&from.gradient, direction);
    let mut next = Point { x: from.x.clone(), gradient: vec![0.0; from.x.len()], value: 0.0 };
    let (mut low, mut high, mut t) = ((0.0, slope), None, 1.0);
    for tries in 1..=40 {
        next.x.clone_from(&from.x);
        add(&mut next.x, t, direction);
        next.value = objective.evaluate(&next.x, &mut next.gradient);
        let here = dot(&next.gradient, direction);
        let risen = next.value.is_nan() || next.value > from.value + NOISE * from.value.abs();
        if risen || here > -0.8 * slope {
            high = Some((t, here));
        } else if here < 0.9 * slope {
            low = (t, here);
        } else {
            return Some((next, tries));
        }
        t = match high {
            None => 4.0 * t,
            Some((end, rise)) => {
                let secant = -low.1 / (rise - low.1);
                let part = if secant.is_finite() { secant.clamp(0.1, 0.9) } else { 0.5 };
                low.0 + part * (end - low.0)
            }
        };
    }
    None
}

fn remember(pairs: &mut VecDeque<Pair>, from: &Point, to: &Point) {
    let less = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>();
    let (step, change) = (less(&to.x, &from.x), less(&to.gradient, &from.gradient));
    let curvature = dot(&step, &change);
    if curvature > 1e-14 * (dot(&step, &step) * dot(&change, &change)).sqrt() {
        if pairs.len() == MEMORY {
            pairs.pop_front();
        }
        pairs.push_back(Pair { step, change, rho: 1.0 / curvature });
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], scale: f64, v: &[f64]) {
    to.iter_mut().zip(v).for_each(|(t, v)| *t += scale * v);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Σ c (cosh(x - i) - 1)` with curvatures over four orders; the minimum is at `x = i`.
    struct Valley {
        scales: Vec<f64>,
        preconditioned: bool,
    }

    impl Objective for Valley {
        fn evaluate(&mut self, x: &[f64], gradient: &mut [f64]) -> f64 {
            let mut value = 1.0;
            for (i, ((x, c), g)) in x.iter().zip(&self.scales).zip(gradient).enumerate() {
                *g = c * (x - i as f64).sinh();
                value += c * ((x - i as f64).cosh() - 1.0);
            }
            value
        }

        fn precondition(&self, v: &mut [f64]) {
            if self.preconditioned {
                v.iter_mut().zip(&self.scales).for_each(|(v, c)| *v /= c);
            }
        }
    }

    #[test]
    fn finds_the_minimum_and_says_so() {
        let run = |preconditioned, iterations| {
            let mut valley =
                Valley { scales: (0..8).map(|i| 10f64.powf(f64::from(i) / 2.0)).collect(), preconditioned };
            let mut x = vec![0.0; 8];
            let stop = Stop { gap: 1e-12, iterations, evaluations: usize::MAX };
            let end = minimise(&mut valley, &mut x, &mut Memory::default(), stop);
            (end, x)
        };
        let (slow, _) = run(false, 500);
        let (fast, x) = run(true, 500);
        assert!(slow.converged && fast.converged && fast.iterations < slow.iterations);
        assert!(x.iter().enumerate().all(|(i, x)| (x - i as f64).abs() < 1e-5), "{x:?}");
        assert!((fast.objective - 1.0).abs() < 1e-11 && fast.gradient < 1e-2);
        let (short, _) = run(false, 2);
        assert!(!short.converged && short.gap > 1e-12 && short.iterations == 2);
        let mut valley = Valley { scales: vec![1.0, 100.0], preconditioned: false };
        let stop = Stop { gap: 0.0, iterations: 500, evaluations: 5 };
        let few = minimise(&mut valley, &mut vec![9.0, 9.0], &mut Memory::default(), stop);
        assert!(!few.converged && (5..45).contains(&few.evaluations), "{few:?}");
    }
}
