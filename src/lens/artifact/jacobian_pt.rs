//! Jacobian lenses in the files of the wild: one `.pt` with `J {k: [d, d]}`, `n_prompts`, `source_layers` and `d_model`,
//! as Anthropic's reference, TransformerLens, vllm-lens and saklas share them; and the reference's checkpoints, which
//! hold sums.
//!
//! Their layer `k` is what leaves block `k`: ours is `k + 1`. So the embedding's Jacobian, our layer 0, has no place in
//! such a file.

use std::{collections::BTreeMap, path::Path};

use layerscope_lenses::{
    Jacobian, LayerIndex,
    torch_file::{Item, Key, read_items, write_items},
};
use serde_json::{Map, Value};
use tch::{Kind, Tensor};

use super::ArtifactError;

/// A Jacobian lens as others store it.
#[derive(Debug)]
pub struct JacobianFile {
    /// By our layers; how well they are known is not in such files.
    pub jacobians: BTreeMap<LayerIndex, Jacobian>,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Prompts it is a mean over, where the file says.
    pub prompts: Option<u64>,
    /// The layer whose change was measured, where the file says; what leaves the last block otherwise.
    pub target: Option<LayerIndex>,
    /// Whether it was differentiated by the rules of relevance.
    pub relp: bool,
    /// What else it says of itself: `metadata` or `provenance`.
    pub about: Value,
}

impl JacobianFile {
    /// Reads a file's bytes; `path` is for errors.
    ///
    /// # Errors
    /// When it is no such file, holds no Jacobian, or one that is not square or not finite.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self, ArtifactError> {
        let bad = |reason: String| ArtifactError::JacobianPt { path: path.to_owned(), reason };
        let root =
            read_items(bytes).map_err(|source| ArtifactError::ParamsPt { path: path.to_owned(), source })?;
        let (layers, sums) = match (root.get("J"), root.get("jacobian_sum")) {
            (Some(Item::Dict(layers)), _) => (layers, false),
            (None, Some(Item::Dict(layers))) => (layers, true),
            _ => return Err(bad("holds neither J nor jacobian_sum by layer: it is no Jacobian lens".into())),
        };
        let prompts = whole(root.get(if sums { "n_done" } else { "n_prompts" }));
        if sums && prompts.is_none_or(|n| n == 0) {
            return Err(bad("is a checkpoint that does not say of how many prompts (n_done)".into()));
        }
        let scale = if sums { 1.0 / prompts.unwrap_or(1) as f64 } else { 1.0 };
        let mut jacobians = BTreeMap::new();
        for (key, item) in layers {
            let (layer, jacobian) = one(key, item, scale, prompts).map_err(bad)?;
            jacobians.insert(layer, jacobian);
        }
        let Some(first) = jacobians.values().next() else { return Err(bad("holds no layer".into())) };
        let d_model = first.mean.size()[0] as usize;
        if let Some((layer, _)) = jacobians.iter().find(|(_, j)| j.mean.size()[0] as usize != d_model) {
            return Err(bad(format!("the Jacobian of block {} is not {d_model} wide", layer.0 - 1)));
        }
        let about = about(&root);
        let target = about["target_layer"].as_u64().or(whole(root.get("target_layer")));
        let says = |key: &str| about[key].as_str().is_some_and(|said| said.contains("relp"));
        let relp = says("estimator") || says("rules") || about["rules"].is_object();
        let target = target.map(|k| LayerIndex(k as usize + 1));
        Ok(Self { jacobians, d_model, prompts, target, relp, about })
    }

    /// The bytes of such a file, in f16 as is usual, with the four keys that every reader knows. Layer 0 is left out.
    ///
    /// # Errors
    /// When no layer is left, or a number is beyond f16.
    pub fn encode(path: &Path, jacobians: &BTreeMap<LayerIndex, Jacobian>) -> Result<Vec<u8>, ArtifactError> {
        let bad = |reason: String| ArtifactError::JacobianPt { path: path.to_owned(), reason };
        let blocks: Vec<(i64, &Jacobian)> = jacobians
            .iter()
            .filter(|(layer, _)| layer.0 > 0)
            .map(|(layer, j)| (layer.0 as i64 - 1, j))
            .collect();
        let Some((_, first)) = blocks.first() else {
            return Err(bad("the lens reads layer 0 only, which such files do not have".into()));
        };
        let mut layers = Vec::new();
        for (k, jacobian) in &blocks {
            let half = jacobian.mean.to_kind(Kind::Half);
            if half.isfinite().all().int64_value(&[]) == 0 {
                return Err(bad(format!("the Jacobian of layer {} has numbers beyond f16", k + 1)));
            }
            layers.push((Key::Int(*k), Item::Tensor(half)));
        }
        let prompts = blocks.iter().map(|(_, j)| j.prompts.min().double_value(&[]) as i64).min();
        let items = [
            (Key::from("J"), Item::Dict(layers)),
            (Key::from("n_prompts"), Item::Int(prompts.unwrap_or(0))),
            (Key::from("source_layers"), Item::List(blocks.iter().map(|(k, _)| Item::Int(*k)).collect())),
            (Key::from("d_model"), Item::Int(first.mean.size()[0])),
        ];
        write_items(&items).map_err(|source| ArtifactError::ParamsPt { path: path.to_owned(), source })
    }
}

/// A layer of the file.
fn one(key: &Key, item: &Item, scale: f64, prompts: Option<u64>) -> Result<(LayerIndex, Jacobian), String> {
    let Key::Int(block @ 0..) = key else { return Err(format!("{key:?} is no block")) };
    let Item::Tensor(tensor) = item else { return Err(format!("what block {block} has is no tensor")) };
    let size = tensor.size();
    if !matches!(size[..], [rows, columns] if rows == columns && rows > 0) {
        return Err(format!("the Jacobian of block {block} has shape {size:?}, not [d_model, d_model]"));
    }
    let mean = tensor.to_kind(Kind::Float) * scale;
    if mean.isfinite().all().int64_value(&[]) == 0 {
        return Err(format!("the Jacobian of block {block} holds a NaN or infinite value"));
    }
    let prompts = Tensor::full([size[0]], prompts.unwrap_or(0) as i64, (Kind::Float, tch::Device::Cpu));
    let layer = usize::try_from(*block).map_err(|e| e.to_string())? + 1;
    Ok((LayerIndex(layer), Jacobian { mean, prompts, squared_error: None }))
}

fn whole(item: Option<&Item>) -> Option<u64> {
    match item {
        Some(Item::Int(n)) => u64::try_from(*n).ok(),
        _ => None,
    }
}

/// What a file says of itself, under either name.
fn about(root: &Item) -> Value {
    let said = root.get("metadata").or_else(|| root.get("provenance"));
    said.map_or_else(|| Value::Object(Map::new()), json)
}

/// Plain values; a tensor becomes its shape.
fn json(item: &Item) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Bool(yes) => (*yes).into(),
        Item::Int(n) => (*n).into(),
        Item::Float(x) => (*x).into(),
        Item::Str(text) => text.as_str().into(),
        Item::List(items) => items.iter().map(json).collect(),
        Item::Dict(items) => items.iter().map(|(key, item)| (key.to_string(), json(item))).collect(),
        Item::Tensor(tensor) => tensor.size().into(),
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn jacobian(of: f32) -> Jacobian {
        let mean = Tensor::from_slice(&[of, 0.5, -2.0, 1.0]).view([2, 2]);
        Jacobian { mean, prompts: Tensor::from_slice(&[7f32, 9.]), squared_error: None }
    }

    fn decode(items: &[(Key, Item)]) -> Result<JacobianFile, String> {
        let bytes = write_items(items).unwrap();
        JacobianFile::decode(Path::new("lens.pt"), &bytes).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_written_is_read_one_layer_on() {
        let all: BTreeMap<_, _> = (0..3).map(|i| (LayerIndex(i), jacobian(i as f32))).collect();
        let bytes = JacobianFile::encode(Path::new("lens.pt"), &all).unwrap();
        let read = JacobianFile::decode(Path::new("lens.pt"), &bytes).unwrap();
        let layers: Vec<usize> = read.jacobians.keys().map(|layer| layer.0).collect();
        assert_eq!((layers, read.d_model, read.prompts), (vec![1, 2], 2, Some(7)));
        assert!(read.jacobians[&LayerIndex(2)].mean.equal(&all[&LayerIndex(2)].mean));
        assert!(read.target.is_none() && !read.relp);
        let only: BTreeMap<_, _> = [(LayerIndex(0), jacobian(1.))].into();
        assert!(JacobianFile::encode(Path::new("lens.pt"), &only).is_err());
        let huge: BTreeMap<_, _> = [(LayerIndex(1), jacobian(1e6))].into();
        let says = JacobianFile::encode(Path::new("lens.pt"), &huge).unwrap_err().to_string();
        assert_eq!(says, "lens.pt: the Jacobian of layer 1 has numbers beyond f16");
    }

    #[test]
    fn a_checkpoint_holds_sums() {
        let sums = |n: i64| {
            vec![
                (Key::from("jacobian_sum"), Item::Dict(vec![(Key::Int(4), Item::Tensor(jacobian(8.).mean))])),
                (Key::from("n_done"), Item::Int(n)),
                (Key::from("target_layer"), Item::Int(5)),
            ]
        };
        let read = decode(&sums(4)).unwrap();
        assert_eq!(read.jacobians[&LayerIndex(5)].mean.double_value(&[0, 0]), 2.0);
        assert_eq!((read.target, read.prompts), (Some(LayerIndex(6)), Some(4)));
        assert!(decode(&sums(0)).unwrap_err().contains("n_done"));
    }

    #[test]
    fn what_is_no_lens_is_refused() {
        let with = |layers: Vec<(Key, Item)>| decode(&[(Key::from("J"), Item::Dict(layers))]).unwrap_err();
        assert!(with(vec![]).ends_with("holds no layer"));
        assert!(with(vec![(Key::Int(-1), Item::None)]).contains("is no block"));
        assert!(with(vec![(Key::Int(1), Item::Int(3))]).contains("no tensor"));
        let zeros = |size: &[i64]| Item::Tensor(Tensor::zeros(size, (Kind::Float, Device::Cpu)));
        assert!(with(vec![(Key::Int(1), zeros(&[2, 3]))]).contains("shape [2, 3]"));
        assert!(
            with(vec![(Key::Int(1), zeros(&[2, 2])), (Key::Int(2), zeros(&[3, 3]))]).contains("not 2 wide")
        );
        assert!(with(vec![(Key::Int(1), Item::Tensor(jacobian(f32::NAN).mean))]).contains("NaN"));
        assert!(decode(&[(Key::from("a"), Item::None)]).unwrap_err().contains("no Jacobian lens"));
    }
}
