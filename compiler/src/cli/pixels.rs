//! `--input [NAME=]u8,scale=S[,mean=A:B:C][,std=A:B:C]`: the caller passes 8-bit pixels; the value is (S·pixel − mean)/std,
//! computed in f64 and rounded once to f32.
//!
//! The graph gets a leading node that makes this value of a pixel, so that everything behind it stays equal: `decode` where
//! S alone says it exactly, else `lookup` in a table of 256 values a channel.

use super::{Failure, engine};
use crate::graph::attrs::Attrs;
use crate::graph::scale::Scale;
use crate::graph::types::{CodeType, Elem};
use crate::graph::{Graph, NodeId, Value, ops};
use dorefa_runtime::{Data, Normalise, Tensor, Transform};
use std::collections::BTreeMap;

/// Key in a graph's metadata under which the argument of an input travels, before its name.
const KEY: &str = "input.u8.";

/// One argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// The input; `None` for the only one.
    name: Option<String>,
    /// The argument without the name.
    text: String,
    /// S, if given.
    scale: Option<String>,
    mean: Vec<f64>,
    std: Vec<f64>,
}

/// A number, or a quotient of two such as 1/255.
fn number(text: &str) -> Option<f64> {
    let value = match text.split_once('/') {
        Some((a, b)) => a.trim().parse::<f64>().ok()? / b.trim().parse::<f64>().ok()?,
        None => text.trim().parse().ok()?,
    };
    value.is_finite().then_some(value)
}

/// A number as an exact scale, if it is a quotient of whole numbers or a plain decimal.
fn exact(text: &str) -> Option<Scale> {
    let scale = match text.split_once('.') {
        Some((whole, digits)) if !digits.is_empty() && digits.len() <= 18 => {
            let ten = 10u64.checked_pow(u32::try_from(digits.len()).ok()?)?;
            Scale::ratio(format!("{whole}{digits}").parse().ok()?, ten)
        }
        _ => {
            let (a, b) = text.split_once('/').unwrap_or((text, "1"));
            Scale::ratio(a.trim().parse().ok()?, b.trim().parse().ok()?)
        }
    };
    scale.filter(|s| Some(s.to_f64()) == number(text))
}

impl Pixels {
    /// Whether an argument of `--input` is of this kind rather than a file.
    pub fn is_one(argument: &str) -> bool {
        argument == "u8" || argument.starts_with("u8,") || argument.ends_with("=u8") || argument.contains("=u8,")
    }

    /// Parses an argument.
    ///
    /// # Errors
    /// Says what is not understood.
    pub fn parse(argument: &str) -> Result<Pixels, Failure> {
        let bad = |what: String| {
            Failure::Input(format!("--input {argument}: {what}; write [NAME=]u8,scale=S[,mean=A:B:C][,std=A:B:C]"))
        };
        let at = if argument.starts_with("u8") { 0 } else { argument.find("=u8").map_or(argument.len(), |i| i + 1) };
        let (name, text) = argument.split_at(at);
        let mut pixels = Pixels {
            name: name.strip_suffix('=').map(str::to_owned),
            text: text.to_owned(),
            scale: None,
            mean: Vec::new(),
            std: Vec::new(),
        };
        let mut parts = text.split(',');
        if parts.next() != Some("u8") {
            return Err(bad("the only element type is u8".to_owned()));
        }
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| bad(format!("`{part}` has no =")))?;
            let list = value.split(':').map(|t| number(t).ok_or_else(|| bad(format!("`{t}` is no number"))));
            let list: Vec<f64> = list.collect::<Result<_, _>>()?;
            match key {
                "scale" if list.iter().all(|v| *v > 0.0) && list.len() == 1 => pixels.scale = Some(value.to_owned()),
                "mean" => pixels.mean = list,
                "std" if list.iter().all(|v| *v != 0.0) => pixels.std = list,
                _ => return Err(bad(format!("`{part}` is not understood"))),
            }
        }
        Ok(pixels)
    }

    /// What a compiled model's metadata says of its inputs.
    ///
    /// # Errors
    /// When it is not what this compiler writes.
    pub fn of_metadata(metadata: &BTreeMap<String, String>) -> Result<Vec<Pixels>, Failure> {
        let found = metadata.iter().filter_map(|(k, v)| Some(format!("{}={v}", k.strip_prefix(KEY)?)));
        found.map(|argument| Pixels::parse(&argument)).collect()
    }

    /// The 256 values of a channel.
    fn values(&self, scale: f64, channel: usize) -> impl Iterator<Item = f32> {
        let pick = |v: &[f64], default: f64| v.get(channel).or(v.first()).copied().unwrap_or(default);
        let (mean, std) = (pick(&self.mean, 0.0), pick(&self.std, 1.0));
        (0..256u32).map(move |p| ((scale * f64::from(p) - mean) / std) as f32)
    }

    fn find(&self, graph: &Graph) -> Result<NodeId, String> {
        let names: Vec<_> = graph.inputs().iter().filter_map(|&id| Some(graph.node(id)?.name.as_str())).collect();
        match &self.name {
            None if names.len() == 1 => graph.inputs().first().copied().ok_or_else(String::new),
            None => Err(format!("the model has the inputs {}; write NAME=u8,…", names.join(", "))),
            Some(name) => {
                let at = names.iter().position(|n| n == name);
                let id = at.and_then(|at| graph.inputs().get(at).copied());
                id.ok_or_else(|| format!("there is no input {name}; there are {}", names.join(", ")))
            }
        }
    }

    fn apply_one(&self, graph: &mut Graph) -> Result<(), String> {
        let id = self.find(graph)?;
        let x = Value { node: id, port: 0 };
        let name = graph.node(id).map_or(String::new(), |n| n.name.clone());
        let ty = graph.value_type(x).cloned().ok_or("the input has no type")?;
        if ty.elem != Elem::F32 {
            return Err(format!("input {name} takes 8-bit pixels already"));
        }
        let channels = ty.shape.per_sample().first().copied().unwrap_or(1);
        if let Some(list) = [&self.mean, &self.std].into_iter().find(|l| l.len() > 1 && l.len() != channels) {
            return Err(format!("{} values for the {channels} channels of input {name}", list.len()));
        }
        let text = self.scale.clone().or_else(|| graph.metadata.get("input.scale").cloned());
        let text = text.ok_or("scale=S is missing, and the model does not name its own")?;
        let scale = number(&text).filter(|s| *s > 0.0).ok_or(format!("scale `{text}` is no positive number"))?;
        let plain = exact(&text).filter(|_| self.mean.is_empty() && self.std.is_empty());
        let codes = CodeType { top: 255, step: 1, offset: 0, scale: vec![plain.unwrap_or(Scale::ONE)].into() };
        let users = graph.users(x);
        graph.set_input_elem(id, Elem::Codes(codes));
        let hint = format!("{name}_value");
        let value = match plain {
            Some(_) => graph.add(ops::known("decode"), &hint, &[x], Attrs::new()),
            None => {
                let rows = if self.mean.len().max(self.std.len()) > 1 { channels } else { 1 };
                let table = (0..rows).flat_map(|c| self.values(scale, c)).collect();
                let table = Tensor::f32([rows, 256], table).map_err(|e| e.to_string())?;
                let table = graph.add_constant(&format!("{name}_values"), table).map_err(|e| e.to_string())?;
                graph.add(ops::known("lookup"), &hint, &[x, table], Attrs::new())
            }
        }
        .map_err(|e| e.to_string())?;
        for (user, port) in users {
            graph.set_operand(user, port, value);
        }
        let mut told = self.text.clone();
        if self.scale.is_none() {
            told.push_str(&format!(",scale={text}"));
        }
        graph.metadata.insert(format!("{KEY}{name}"), told);
        Ok(())
    }
}

/// Gives the graph's inputs the element type that the arguments ask for.
///
/// # Errors
/// One line a problem.
pub fn apply(graph: &mut Graph, arguments: &[Pixels]) -> Result<(), Failure> {
    let problem = |p: &Pixels, e: String| format!("--input {}: {e}", p.text);
    let problems: Vec<_> = arguments.iter().filter_map(|p| p.apply_one(graph).err().map(|e| problem(p, e))).collect();
    if problems.is_empty() { Ok(()) } else { Err(Failure::Input(problems.join("\n"))) }
}

/// Splits the values of `--input` into those that describe pixels and the rest, files.
///
/// # Errors
/// As [`Pixels::parse`].
pub fn split(arguments: &[String]) -> Result<(Vec<Pixels>, Vec<&String>), Failure> {
    let (pixels, files): (Vec<_>, Vec<_>) = arguments.iter().partition(|a| Pixels::is_one(a));
    Ok((pixels.into_iter().map(|a| Pixels::parse(a)).collect::<Result<_, _>>()?, files))
}

/// How pixels become floats where nobody says otherwise: the model's own `input.scale`, else pixel/255.
pub fn default_normalise(metadata: &BTreeMap<String, String>) -> Normalise {
    let text = metadata.get("input.scale").map_or("1/255", String::as_str);
    let scale = if text == "1/255" { None } else { number(text).map(|s| s as f32) };
    Normalise { scale, ..Normalise::default() }
}

/// A picture's pixels as the floats that a float input takes.
pub fn to_floats(picture: Tensor, port: &engine::Input, normalise: &Normalise) -> Tensor {
    let (shape, data) = picture.into_parts();
    let area = shape.iter().skip(2).product::<usize>().max(1);
    let channels = shape.get(1).copied().unwrap_or(1).max(1);
    let data = match data {
        Data::U8(v) if !port.bytes => {
            let mut values: Vec<f32> = v.into_iter().map(f32::from).collect();
            let planes = values.chunks_mut(area).enumerate();
            planes.for_each(|(i, plane)| normalise.apply(plane, i % channels, false));
            Data::F32(values)
        }
        other => other,
    };
    Tensor::new(shape, data).unwrap_or_else(|_| Tensor::scalar(0.0)) // as many elements as before: cannot fail
}

/// Channels, height and width of an input of pictures; `None` if it is something else.
pub fn picture_shape(port: &engine::Input) -> Option<[usize; 3]> {
    match *port.dims {
        [_, Some(c), Some(h), Some(w)] => Some([c, h, w]),
        _ => None,
    }
}

/// Whether the model's own metadata say that pictures of another size are resized.
pub fn resizes(metadata: &BTreeMap<String, String>) -> bool {
    metadata.get("input.resize").is_some_and(|v| v == "bilinear")
}

/// The way from a data set's pictures to the first of `ports`. They are resized where the user (`resize`) or the model's own
/// `input.resize` says so.
pub fn transform(
    ports: &[engine::Input],
    metadata: &BTreeMap<String, String>,
    resize: bool,
    normalise: Normalise,
) -> Transform {
    match ports.first().and_then(picture_shape) {
        Some(shape) => Transform::fit(shape, resize || resizes(metadata), normalise),
        None => Transform { normalise, ..Transform::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::types::{Shape, ValueType};
    use crate::interp;

    #[test]
    fn arguments_are_told_from_files() {
        for yes in ["u8", "u8,scale=1/255", "x=u8,scale=1", "x=u8"] {
            assert!(Pixels::is_one(yes), "{yes}");
        }
        for no in ["x.npy", "u8.npy", "a=u8x.npz", "folder/u8"] {
            assert!(!Pixels::is_one(no), "{no}");
        }
        for bad in ["u8,scale=0", "u8,scale", "u8,scale=a", "u8,std=0", "u8,what=1"] {
            assert!(Pixels::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn both_forms_give_the_value_rounded_once() {
        let all: Vec<u8> = (0..=255).collect();
        for (argument, scale, mean, std) in [
            ("u8,scale=1/255", 1.0 / 255.0, 0.0, 1.0),
            ("x=u8,scale=0.00390625", 1.0 / 256.0, 0.0, 1.0),
            ("u8,scale=1/255,mean=0.485,std=0.229", 1.0 / 255.0, 0.485, 0.229),
        ] {
            let mut g = Graph::new("t");
            let x = g.add_input("x", ValueType::f32(Shape::batched(&[1, 16, 16])));
            let y = g.add(ops::known("relu"), "y", &[x], Attrs::new()).expect("relu");
            g.add_output("y", y);
            apply(&mut g, &[Pixels::parse(argument).expect("parses")]).expect("applies");
            crate::graph::verify::verify(&g).expect("valid");
            let pixels = Tensor::new([1, 1, 16, 16], Data::U8(all.clone())).expect("fits");
            let got = interp::run(&g, &[pixels], true).expect("runs");
            let want = all.iter().map(|&p| (((scale * f64::from(p)) - mean) / std) as f32).map(|v| v.max(0.0));
            assert_eq!(got[0].as_f32().expect("floats"), want.collect::<Vec<_>>(), "{argument}");
            assert!(apply(&mut g, &[Pixels::parse(argument).expect("parses")]).is_err());
        }
    }
}
