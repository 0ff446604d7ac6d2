//! Data files, read more than once: stdin is kept in a temporary file.

use std::{io, path::PathBuf, sync::Arc};

use crate::{
    results::hash::sha256_file,
    results::run::DataFile,
    sources::{
        chat::Chats,
        text::{Corpus, Format, TextError, data_files},
    },
};
use tempfile::TempDir;

use super::{JobError, TextSettings, stdin};

/// The inputs of a command, checked.
pub struct Inputs {
    paths: Vec<PathBuf>,
    /// As the user wrote them, for the record.
    names: Vec<String>,
    text_column: Option<String>,
    /// What makes texts of chats.
    chats: Option<Arc<Chats>>,
    /// Holds what came from stdin until the command ends.
    _spool: Option<TempDir>,
}

impl Inputs {
    /// Checks every file (none where a command reads activations in place of text); stdin is read to its end.
    ///
    /// # Errors
    /// A file that is not there, or is of no known format.
    pub fn open(args: &TextSettings) -> Result<Self, JobError> {
        let mut paths = data_files(&args.data)?;
        let names = paths.iter().map(|p| p.display().to_string()).collect();
        let mut spool = None;
        let stdins = paths.iter().filter(|p| p.as_os_str() == "-").count();
        if stdins > 1 {
            return Err(JobError::usage(TextError::StdinTwice));
        }
        if let Some(spooled) = paths.iter_mut().find(|p| p.as_os_str() == "-") {
            let dir = tempfile::tempdir()?;
            *spooled = dir.path().join(format!("stdin.{}", extension(args.stdin_format)));
            let mut file = std::fs::File::create(&*spooled)?;
            io::copy(&mut stdin()?.lock(), &mut file).map_err(|e| JobError::usage(e).at("stdin"))?;
            spool = Some(dir);
        }
        let inputs = Self { paths, names, text_column: args.text_column.clone(), chats: None, _spool: spool };
        if !inputs.paths.is_empty() {
            inputs.corpus()?;
        }
        Ok(inputs)
    }

    /// The documents, from the start.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn corpus(&self) -> Result<Corpus, TextError> {
        let corpus = Corpus::open(&self.paths, self.text_column.as_deref(), None)?;
        Ok(corpus.with_chats(self.chats.clone()))
    }

    /// The same, with a model whose template makes texts of chats.
    #[must_use]
    pub fn with_chats(self, chats: Chats) -> Self {
        Self { chats: Some(Arc::new(chats)), ..self }
    }

    /// What the text of chats depends on, where there were any.
    pub fn chat_identity(&self) -> Option<serde_json::Value> {
        self.chats.as_ref().and_then(|chats| chats.identity())
    }

    /// The files.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Every file with its size and hash.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn hashes(&self) -> Result<Vec<DataFile>, JobError> {
        hashes(&self.paths, &self.names)
    }
}

/// Files with their sizes and hashes, under the names that the user wrote.
///
/// # Errors
/// A file that cannot be read.
pub fn hashes(paths: &[PathBuf], names: &[String]) -> Result<Vec<DataFile>, JobError> {
    let record = |(path, name): (&PathBuf, &String)| {
        let bytes = std::fs::metadata(path)?.len();
        Ok(DataFile {
            path: name.clone(),
            sha256: sha256_file(path, &|_| ())
                .map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))?,
            bytes,
        })
    };
    paths.iter().zip(names).map(record).collect()
}

fn extension(format: Format) -> &'static str {
    match format {
        Format::Txt => "txt",
        Format::Jsonl => "jsonl",
        Format::Json => "json",
        Format::Csv => "csv",
        Format::Tsv => "tsv",
        Format::Parquet => "parquet",
        Format::Arrow => "arrow",
    }
}
