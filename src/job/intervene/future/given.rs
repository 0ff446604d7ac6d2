//! The lenses of `future`, by how they are read.

use std::path::PathBuf;

use tch::Device;

use crate::{
    job::{
        JobError, Watch,
        lens::{LensRequest, Lenses, check_shapes, folder_name, is_logit, open, read, records, site_of},
    },
    lens::artifact::{LensFolder, LensKind, check, check_shape, lens_sha256, unembed_sha256},
    model::{Model, Spec},
    results::run::LensRecord,
};

/// A lens that is no map between states: learned prompts, or straight to the vocabulary.
pub(super) struct Learned {
    pub(super) name: String,
    dir: PathBuf,
    pub(super) folder: LensFolder,
}

/// What the setting `lens` names, by how it is read.
pub(super) struct Given {
    pub(super) learned: Vec<Learned>,
    pub(super) vocabs: Vec<Learned>,
    /// The names of all others.
    pub(super) others: Vec<PathBuf>,
    asked: Vec<LensRequest>,
}

impl Given {
    /// Reads the folders, and finds what is wrong with them by themselves.
    pub(super) fn read(names: &[PathBuf]) -> Result<Self, JobError> {
        let (mut learned, mut vocabs, mut others) =
            (Vec::<Learned>::new(), Vec::<Learned>::new(), Vec::new());
        for name in names {
            if is_logit(name) || !name.is_dir() {
                others.push(name.clone());
                continue;
            }
            let folder = LensFolder::read(name).map_err(JobError::usage)?;
            let kind = folder.config.kind;
            match kind {
                LensKind::FuturePrompt => drop(folder.prompts().map_err(JobError::usage)?),
                LensKind::FutureVocab => drop(folder.vocab_maps(Device::Cpu).map_err(JobError::usage)?),
                _ => {
                    others.push(name.clone());
                    continue;
                }
            }
            let label = folder_name(name)?;
            let taken = label == "fixed" || learned.iter().chain(&vocabs).any(|l| l.name == label);
            let label = if taken { format!("{label}-{}", learned.len() + vocabs.len() + 1) } else { label };
            let list = if kind == LensKind::FuturePrompt { &mut learned } else { &mut vocabs };
            list.push(Learned { name: label, dir: name.clone(), folder });
        }
        let asked = read(&others)?;
        if site_of(&asked) != "resid_pre" {
            let problem = format!("a lens reads {}, not resid_pre", site_of(&asked));
            return Err(JobError::setting("lens", problem));
        }
        Ok(Self { learned, vocabs, others, asked })
    }

    /// The lenses that are no maps between states.
    fn direct(&self) -> impl Iterator<Item = &Learned> {
        self.learned.iter().chain(&self.vocabs)
    }

    /// Refuses lenses that were made for a model of another shape.
    pub(super) fn check_shapes(&self, spec: &Spec) -> Result<(), JobError> {
        check_shapes(&self.asked, spec)?;
        for lens in self.direct() {
            check_shape(&lens.folder.config, spec.d_model, spec.n_layers)
                .map_err(|e| JobError::check(format!("{}: {e}", lens.dir.display())))?;
        }
        Ok(())
    }

    /// Their folders, and whether what they were fitted on can be looked up there.
    pub(super) fn fitted_in(&self) -> Vec<(PathBuf, bool)> {
        let own = |l: &Learned| (l.dir.clone(), l.folder.config.unembed_sha256.is_some());
        self.asked.iter().filter_map(LensRequest::fitted_in).chain(self.direct().map(own)).collect()
    }

    /// What the manifest says of them.
    pub(super) fn records(&self) -> Result<Vec<LensRecord>, JobError> {
        let mut records: Vec<LensRecord> = records(&self.asked)?;
        for lens in self.direct() {
            records.push(LensRecord { name: lens.name.clone(), sha256: lens_sha256(&lens.dir)? });
        }
        Ok(records)
    }

    /// The maps between states on the model's device; every lens is checked against its unembedding.
    pub(super) fn open(&self, model: &Model, other: bool, watch: &dyn Watch) -> Result<Lenses, JobError> {
        let lenses = open(&self.asked, model, other, watch)?;
        let (hash, spec) = (unembed_sha256(model.unembed())?, model.spec());
        for lens in self.direct() {
            match check(&lens.folder.config, &hash, spec.d_model, spec.n_layers) {
                Ok(_) => {}
                Err(e) if other => watch.warn(&format!("{}: {e}", lens.dir.display())),
                Err(e) => return Err(JobError::check(format!("{}: {e}", lens.dir.display()))),
            }
        }
        Ok(lenses)
    }
}
