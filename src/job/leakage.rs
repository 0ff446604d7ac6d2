//! Leakage: lenses and probes on what they were fitted on are named, or refused.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    lens::fit::Split,
    results::run::Manifest,
    sources::leakage::{Basis, EqualDocuments, FittedOn, Leakage, across, lead_of},
    sources::text::Window,
};

use super::{JobError, Setting, Source, Watch, lens::LensRequest, shown};

/// What is done about leakage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct LeakageSettings {
    /// Refuse to measure on what was fitted on (exit 3), in place of a warning
    #[cfg_attr(feature = "cli", arg(long))]
    pub strict_leakage: bool,
}

impl LeakageSettings {
    /// Says what was found, puts it into the manifest, and refuses it if asked to.
    ///
    /// # Errors
    /// [`JobError::Check`] where leaks shall be refused.
    pub fn judge(
        self,
        found: Vec<Leakage>,
        manifest: &mut Manifest,
        watch: &dyn Watch,
    ) -> Result<(), JobError> {
        if let Some(leak) = found.iter().find(|one| one.leaks()).filter(|_| self.strict_leakage) {
            return Err(JobError::check(format!("{leak}; {} refuses this", Setting("strict_leakage"))));
        }
        for one in &found {
            if one.leaks() || (self.strict_leakage && one.overlap.is_none()) {
                watch.warn(&one.to_string());
            } else {
                watch.note(&one.to_string());
            }
        }
        manifest.leakage.extend(found);
        Ok(())
    }

    /// Warns of a leak that has no record of its own, such as equal texts on both sides of a split, or refuses it.
    ///
    /// # Errors
    /// [`JobError::Check`] where leaks shall be refused.
    pub fn warn(self, leak: &str, watch: &dyn Watch) -> Result<(), JobError> {
        if self.strict_leakage {
            return Err(JobError::check(format!("{leak}; {} refuses this", Setting("strict_leakage"))));
        }
        watch.warn(leak);
        Ok(())
    }

    /// Holds a text against what each of these lenses was fitted on.
    ///
    /// # Errors
    /// [`JobError::Check`] where leaks shall be refused; a record that cannot be read.
    pub fn of_lenses(
        self,
        asked: &[LensRequest],
        text: &[Window],
        source: &Source<'_>,
        manifest: &mut Manifest,
        watch: &dyn Watch,
    ) -> Result<(), JobError> {
        if let Some(said) = EqualDocuments::of(text).said() {
            watch.warn(&format!("{said}: intervals count each as evidence of its own, and are too narrow"));
        }
        let folders: Vec<(PathBuf, bool)> = asked.iter().filter_map(LensRequest::fitted_in).collect();
        self.of_folders(&folders, text, source, manifest, watch)
    }

    /// The same of lenses by their folders, and whether what they were fitted on can be looked up there.
    ///
    /// # Errors
    /// [`JobError::Check`] where leaks shall be refused; a record that cannot be read.
    pub fn of_folders(
        self,
        folders: &[(PathBuf, bool)],
        text: &[Window],
        source: &Source<'_>,
        manifest: &mut Manifest,
        watch: &dyn Watch,
    ) -> Result<(), JobError> {
        let lead = lead_of(manifest.bos.as_ref(), source.tokenizer.eos_id());
        let one = |(folder, known): &(PathBuf, bool)| of_lens(folder, *known, (text, &lead), manifest);
        let found = folders.iter().map(one).collect::<Result<Vec<_>, _>>()?;
        self.judge(found, manifest, watch)
    }
}

/// A text against what the lens in a folder was fitted on.
fn of_lens(
    folder: &Path,
    known: bool,
    (text, lead): (&[Window], &[u32]),
    manifest: &Manifest,
) -> Result<Leakage, JobError> {
    let name = shown(folder);
    let unknown = |why: &str| Leakage::unknown(name.as_str(), "this text", Basis::Tokens, why);
    let fitted = if known { FittedOn::read(folder)? } else { None };
    let Some(fitted) = fitted else {
        let file = if known { same_file(folder, manifest) } else { None };
        return Ok(Leakage { file, ..unknown("its folder has no record of the documents it was fitted on") });
    };
    if fitted.tokenizer() != manifest.tokenizer_sha256.as_deref() {
        return Ok(unknown("it was fitted on ids of another tokenizer"));
    }
    Ok(Leakage::found(name.as_str(), "this text", Basis::Tokens, fitted.overlap_of_windows(text, lead)))
}

/// A file of this run that an older lens was fitted on: it has no record of documents.
fn same_file(folder: &Path, manifest: &Manifest) -> Option<String> {
    let fit = Manifest::read(folder).ok().flatten()?; // lenses from elsewhere have none
    let seen = |sha256: &String| fit.data.iter().any(|file| file.sha256 == *sha256);
    manifest.data.iter().find(|file| seen(&file.sha256)).map(|file| file.path.clone())
}

/// The documents of both sides of a split: what is held out chooses among translators, and is fitted on as well.
pub fn fitted_on(text: &[Window], split: &Split, lead: &[u32], manifest: &Manifest) -> FittedOn {
    let mut places = [&split.train[..], &split.held_out].concat();
    places.sort_unstable();
    FittedOn::of_windows(places.iter().map(|i| &text[*i]), lead, manifest.tokenizer_sha256.clone())
}

impl LeakageSettings {
    /// Holds the held-out side of a split against the side that `fitted` is fitted on; silent where they share nothing.
    ///
    /// # Errors
    /// [`JobError::Check`] where leaks shall be refused.
    pub fn of_split(
        self,
        text: &[Window],
        split: &Split,
        (fitted, source): (&str, &Source<'_>),
        manifest: &mut Manifest,
        watch: &dyn Watch,
    ) -> Result<(), JobError> {
        let lead = lead_of(manifest.bos.as_ref(), source.tokenizer.eos_id());
        let found = across(text, &split.train, &split.held_out, (&lead, (fitted, "its held-out text")));
        let shares = found.overlap.is_some_and(|overlap| overlap.seen_rows > 0);
        let found = if shares { vec![found] } else { Vec::new() };
        self.judge(found, manifest, watch)
    }
}
