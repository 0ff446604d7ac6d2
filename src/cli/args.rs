//! Arguments that several commands share.

use std::{ffi::OsString, num::NonZeroUsize, path::PathBuf, str::FromStr};

use clap::Args;
use layerscope::{
    sources::device::{DeviceArg, Dtype},
    sources::text::{BosPolicy, Format},
};

/// Which model, and how to run it.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Model folder (config.json, tokenizer.json, safetensors), or a Hugging Face id such as `org/name`
    #[arg(long, value_name = "DIR|ID")]
    pub(crate) model: OsString,
    /// Revision of a Hugging Face id
    #[arg(long, value_name = "REV")]
    pub(crate) revision: Option<String>,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(crate) device: DeviceArg,
    /// Number type of the model: auto (f32 on the CPU, the checkpoint's own on CUDA), f32, bf16 or f16
    #[arg(long, default_value = "auto", value_name = "TYPE")]
    pub(crate) dtype: Dtype,
    /// Threads; by default one per core
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Whether documents begin with BOS: auto (as tokenizer and config say), always or never
    #[arg(long, value_enum, default_value_t = BosPolicy::Auto, value_name = "POLICY")]
    pub(crate) bos: BosPolicy,
}

/// How to talk.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// Newline-delimited JSON on stdout, ending in one `result` object
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress and no notes on stderr; warnings and errors stay
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Settings every command takes, whether or not it draws random numbers.
#[derive(Debug, Clone, Args)]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Seed of every random draw
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) seed: u64,
    /// Options from a TOML file; those on the command line win
    #[arg(long, value_name = "FILE.toml")]
    #[allow(dead_code)] // taken off the command line before clap sees it; declared for --help
    config: Option<PathBuf>,
}

/// Which text, and how it is cut.
#[derive(Debug, Args)]
pub(crate) struct TextArgs {
    /// Documents: .txt (one document), .jsonl, .json, .csv, .tsv (or these with .gz, .zst), .parquet, .arrow; a folder of shards; `-` is stdin
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub(crate) data: Vec<PathBuf>,
    /// Column of the text
    #[arg(long, value_name = "NAME")]
    pub(crate) text_column: Option<String>,
    /// Format of stdin
    #[arg(long, value_enum, default_value_t = Format::Txt, value_name = "FORMAT")]
    pub(crate) stdin_format: Format,
    /// Stop after so many tokens
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<u64>,
    /// Longest window; by default the model's context
    #[arg(long, value_name = "N")]
    pub(crate) seq_len: Option<usize>,
    /// Join documents with EOS and cut equal chunks; attention then crosses documents
    #[arg(long)]
    pub(crate) pack: bool,
}

/// Layers such as `0,4,8-12`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layers(pub(crate) Vec<usize>);

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut layers = Vec::new();
        for part in text.split(',') {
            let number =
                |t: &str| t.trim().parse::<usize>().map_err(|_| format!("`{t}` is not a layer number"));
            match part.split_once('-') {
                None => layers.push(number(part)?),
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    if first > last || last > 100_000 {
                        return Err(format!("`{part}` is not an ascending range of layers"));
                    }
                    layers.extend(first..=last);
                }
            }
        }
        layers.sort_unstable();
        layers.dedup();
        Ok(Self(layers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_lists_and_ranges() {
        assert_eq!("8-10,0,4,4".parse(), Ok(Layers(vec![0, 4, 8, 9, 10])));
        for (bad, says) in [("", "``"), ("a", "`a`"), ("-1", "``"), ("1,,2", "``")] {
            assert_eq!(bad.parse::<Layers>(), Err(format!("{says} is not a layer number")), "{bad}");
        }
        assert_eq!("3-1".parse::<Layers>(), Err("`3-1` is not an ascending range of layers".to_owned()));
    }
}
