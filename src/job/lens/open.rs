//! `logit` and lens folders: the lenses of a job, checked against its model.

use std::path::{Path, PathBuf};

use crate::{
    lens::artifact::{ArtifactError, LensFolder, LensKind, check, check_shape, lens_sha256, unembed_sha256},
    lenses::{Lens, LogitLens},
    model::{Model, Spec},
    results::{
        run::{LensRecord, MANIFEST, RowKind},
        words::numbered,
    },
};
use tch::Device;

use crate::job::{JobError, Session, SetTo, Watch, shown};

/// Where lenses read that do not say where.
const SITE: &str = "resid_pre";

/// Lenses, and what each is.
pub struct Lenses {
    /// The lenses.
    pub all: Vec<Box<dyn Lens>>,
    /// The logit lens, a tuned lens … per lens.
    pub kinds: Vec<RowKind>,
}

/// A lens as it was asked for, before the model is loaded.
pub struct LensRequest {
    name: String,
    folder: Option<(PathBuf, LensFolder)>,
}

/// Reads what a job's `lens` names; names are the folders', numbered where two are equal. What is wrong with a folder
/// by itself, and with lenses side by side, is found here.
///
/// # Errors
/// A folder that is not there or holds no lens; lenses of several sites.
pub fn read(names: &[PathBuf]) -> Result<Vec<LensRequest>, JobError> {
    let mut requests: Vec<LensRequest> = Vec::new();
    for name in names {
        if is_logit(name) {
            requests.push(LensRequest { name: "logit".to_owned(), folder: None });
            continue;
        }
        if !name.is_dir() {
            return Err(JobError::usage(format!(
                "{}: there is no such folder (and no lens called so but `logit`)",
                SetTo("lens", name.display())
            )));
        }
        let folder = LensFolder::read(name).map_err(JobError::usage)?;
        let label = numbered(&folder_name(name)?, |label| {
            label == "logit" || requests.iter().any(|a| a.name == label)
        });
        folder.lenses(&label, Device::Cpu).map_err(JobError::usage)?;
        requests.push(LensRequest { name: label, folder: Some((name.clone(), folder)) });
    }
    one_site(&requests)?;
    Ok(requests)
}

/// Whether a name is that of the one that is in no folder.
pub fn is_logit(name: &Path) -> bool {
    name.as_os_str() == "logit"
}

/// What a folder is called, however it was written.
///
/// # Errors
/// A folder that is not there.
pub fn folder_name(dir: &Path) -> std::io::Result<String> {
    let whole = dir.canonicalize()?;
    Ok(whole.file_name().map_or_else(|| shown(dir), |name| name.to_string_lossy().into_owned()))
}

/// Refuses lenses that were made for a model of another shape, which can be told before its weights are read.
///
/// # Errors
/// [`JobError::Check`], naming the lens.
pub fn check_shapes(requests: &[LensRequest], spec: &Spec) -> Result<(), JobError> {
    for (dir, folder) in requests.iter().filter_map(|a| a.folder.as_ref()) {
        check_shape(&folder.config, spec.d_model, spec.n_layers)
            .map_err(|e| JobError::check(format!("{}: {e}", dir.display())))?;
    }
    Ok(())
}

/// Where all of the lenses read.
pub fn site(requests: &[LensRequest]) -> &str {
    requests.iter().find_map(|a| a.folder.as_ref()).map_or(SITE, |(_, folder)| &folder.config.site)
}

fn one_site(requests: &[LensRequest]) -> Result<(), JobError> {
    let all = site(requests);
    let other = |(_, folder): &&(PathBuf, LensFolder)| folder.config.site != all;
    match requests.iter().filter_map(|a| a.folder.as_ref()).find(other) {
        None => Ok(()),
        Some((dir, folder)) => Err(JobError::usage(format!(
            "{} reads {}, another lens {all}; evaluate them apart",
            dir.display(),
            folder.config.site
        ))),
    }
}

impl LensRequest {
    /// Its name in results.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the manifest says of it; none for the logit lens.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn record(&self) -> Result<Option<LensRecord>, JobError> {
        let Some((dir, _)) = &self.folder else { return Ok(None) };
        Ok(Some(LensRecord { name: self.name.clone(), sha256: lens_sha256(dir)? }))
    }

    /// Its folder, and whether what it was fitted on can be looked up there: of the package's lenses it cannot, even
    /// where they were saved over one of ours.
    pub fn fitted_in(&self) -> Option<(PathBuf, bool)> {
        self.folder.as_ref().map(|(dir, folder)| (dir.clone(), folder.config.unembed_sha256.is_some()))
    }

    /// How many tokens ahead it reads.
    pub fn horizons(&self) -> usize {
        self.folder
            .as_ref()
            .map_or(1, |(_, folder)| folder.config.horizons.iter().copied().max().unwrap_or(1))
    }

    /// Whether it has a translator for this layer; the logit lens needs none.
    pub fn reads(&self, layer: usize) -> bool {
        self.folder.as_ref().is_none_or(|(_, folder)| folder.config.layers.contains(&layer))
    }

    /// Whether it is of later tokens, and not of the next.
    pub fn reads_ahead(&self) -> bool {
        [LensKind::Future, LensKind::FutureVocab, LensKind::FuturePrompt].iter().any(|kind| self.is(*kind))
    }

    /// Whether it is a lens of this kind.
    pub fn is(&self, kind: LensKind) -> bool {
        self.folder.as_ref().is_some_and(|(_, folder)| folder.config.kind == kind)
    }
}

/// An encoder has no lens of later tokens.
///
/// # Errors
/// The first such lens by name.
pub(crate) fn refuse_ahead(requests: &[LensRequest], session: &Session) -> Result<(), JobError> {
    match requests.iter().find(|lens| lens.reads_ahead()) {
        Some(lens) => session.needs_decoder(&format!("lens {}, which reads tokens ahead", lens.name)),
        None => Ok(()),
    }
}

/// What the manifest says of all lenses that have a folder.
///
/// # Errors
/// A file that cannot be read.
pub fn records(requests: &[LensRequest]) -> Result<Vec<LensRecord>, JobError> {
    requests.iter().filter_map(|lens| lens.record().transpose()).collect()
}

/// Puts the lenses on the model's device. One that was made for another unembedding is refused, unless `other` allows
/// it.
///
/// # Errors
/// [`JobError::Check`], naming the lens that was made for another unembedding.
pub fn open(
    requests: &[LensRequest],
    model: &Model,
    other: bool,
    watch: &dyn Watch,
) -> Result<Lenses, JobError> {
    let spec = model.spec();
    let hash = unembed_sha256(model.unembed())?;
    let mut lenses = Lenses { all: Vec::new(), kinds: Vec::new() };
    for lens in requests {
        let Some((dir, folder)) = &lens.folder else {
            lenses.all.push(Box::new(LogitLens));
            lenses.kinds.push(RowKind::Logit);
            continue;
        };
        let config = &folder.config;
        match check(config, &hash, spec.d_model, spec.n_layers) {
            Ok(None) => {}
            Ok(Some(note)) => watch.warn(&format!("{}: {note}", dir.display())),
            Err(e) if other && matches!(e, ArtifactError::OtherUnembedding { .. }) => {
                watch.warn(&format!("{}: {e}", dir.display()));
            }
            Err(e) => return Err(JobError::check(format!("{}: {e}", dir.display()))),
        }
        if !folder.checked && folder.dir.join(MANIFEST).exists() {
            watch.note(&format!(
                "{}: its manifest is from before there were checksums; its files were not checked",
                dir.display()
            ));
        }
        for one in folder.lenses(&lens.name, model.device())? {
            lenses.all.push(one);
            lenses.kinds.push(config.kind.into());
        }
    }
    Ok(lenses)
}
