use crate::Resamples;

/// What makes an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Delete one cluster at a time; Wilson's for shares.
    #[default]
    Jackknife,
    /// Percentiles of a Poisson bootstrap over clusters, for any number and from two clusters on. It covers less than
    /// it says with few or unequal clusters; earlier versions had nothing else.
    Bootstrap,
}

/// How intervals are made: one value for a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Intervals {
    method: Method,
    resamples: Resamples,
    serial: bool,
}

impl Intervals {
    /// `resamples` are the bootstrap's, and those by which probes compare layers.
    pub fn new(method: Method, resamples: Resamples) -> Self {
        Self { method, resamples, serial: false }
    }

    /// Percentile intervals of `replicates` resamples.
    pub fn bootstrap(seed: u64, replicates: usize) -> Self {
        Self::new(Method::Bootstrap, Resamples::new(seed, replicates))
    }

    /// Of clusters that are neighbours in one text, such as its windows, in the order of their ids: neighbours are
    /// alike, which widens a jackknife's intervals.
    #[must_use]
    pub fn serial(self) -> Self {
        Self { serial: true, ..self }
    }

    /// What makes them.
    pub fn method(self) -> Method {
        self.method
    }

    /// The resamples.
    pub fn resamples(self) -> Resamples {
        self.resamples
    }

    /// Whether clusters are neighbours in one text.
    pub fn is_serial(self) -> bool {
        self.serial
    }
}
