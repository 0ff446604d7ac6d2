//! What is measured at one layer.

use layerscope_lenses::{LayerIndex, Lens, Readout};
use tch::Tensor;

use super::{CausalError, Energy, Ground, Removal, Set, basis_name, extract, principal, random};
use crate::watch::Underway;

/// Principal axes that take other tokens' parts for the alignment, or as many as there are directions where these are
/// fewer.
const ALIGNED: usize = 10;

/// Directions of one layer, and who reads it.
#[derive(Debug)]
pub struct Plan {
    /// Mean state and other tokens' states.
    pub ground: Ground,
    /// The causal basis of every lens that reads the layer, then the controls.
    pub sets: Vec<Set>,
    /// Places of the lenses that read the layer, ascending.
    pub lenses: Vec<usize>,
    /// At most ten leading principal axes `[k, d]`, the subspace of the alignment.
    pub subspace: Tensor,
    /// Evaluations that finding the bases took.
    pub evaluations: usize,
    /// Directions whose search was cut off.
    pub unfinished: usize,
}

impl Plan {
    /// Finds `k` directions per lens, and as many principal and random ones. `stage` counts the directions of lenses.
    ///
    /// # Errors
    /// As [`extract`].
    pub fn new(
        readout: &Readout,
        all: &[Box<dyn Lens>],
        ground: Ground,
        (removal, k): (Removal, usize),
        stage: &Underway<'_>,
    ) -> Result<Self, CausalError> {
        let (layer, d) = (LayerIndex(ground.layer), readout.d_model());
        if k > d {
            return Err(CausalError::Directions { k, d });
        }
        let stand_in = ground.own_stand_in(removal)?;
        let lenses: Vec<usize> = (0..all.len()).filter(|place| all[*place].reads(layer)).collect();
        let (mut sets, mut evaluations, mut unfinished) = (Vec::new(), 0, 0);
        for &place in &lenses {
            let lens = all[place].as_ref();
            let named = |source| CausalError::Lens { lens: lens.name().to_owned(), layer, source };
            let energy = Energy::new(readout, (lens, layer), &ground.states, &stand_in).map_err(named)?;
            let basis = extract(&energy, &ground.covariance, k, stage)?;
            evaluations += basis.evaluations;
            unfinished += basis.unfinished;
            let name = basis_name(lens.name());
            sets.push(Set { name, lens: Some(place), vectors: basis.vectors, energies: basis.energies });
        }
        let axes = principal(&ground.covariance, k)?;
        let subspace = axes.f_narrow(0, 0, k.min(ALIGNED) as i64)?;
        let control =
            |name: &str, vectors| Set { name: name.to_owned(), lens: None, vectors, energies: Vec::new() };
        sets.push(control("pca", axes));
        sets.push(control("random", random(k, d, ground.layer, ground.seed)?));
        Ok(Self { ground, sets, lenses, subspace, evaluations, unfinished })
    }

    /// The layer.
    pub fn layer(&self) -> usize {
        self.ground.layer
    }

    /// Directions of all sets.
    pub fn directions(&self) -> usize {
        self.sets.iter().map(Set::len).sum()
    }

    /// Passes of the text that the layer takes: one per direction, one without the subspace.
    pub fn passes(&self) -> usize {
        self.directions() + 1
    }
}
