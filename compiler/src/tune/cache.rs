//! What was measured before, in a file: one JSON object of the kernels' words by key. A file that is none is left out with a
//! warning and written anew; writing goes beside the file and renames.

use crate::codegen::kernels::choice::Kernel;
use dorefa_runtime::io;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// The version of the file's form.
const FORMAT: u64 = 1;

/// The fastest kernels known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cache {
    kernels: Map<String, Value>,
    changed: bool,
}

impl Cache {
    /// Reads a file, if there is one; the text says what is wrong with it.
    pub fn read(path: &Path) -> (Cache, Option<String>) {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return (Cache::default(), None),
            Err(e) => return (Cache::default(), Some(format!("{}: {e}; all is measured", path.display()))),
        };
        match Cache::parse(&bytes) {
            Some(kernels) => (Cache { kernels, changed: false }, None),
            None => {
                let text = "is no cache of measured kernels, or damaged; all is measured anew";
                (Cache::default(), Some(format!("{}: {text}", path.display())))
            }
        }
    }

    fn parse(bytes: &[u8]) -> Option<Map<String, Value>> {
        let Value::Object(mut file) = serde_json::from_slice(bytes).ok()? else { return None };
        if file.get("format")?.as_u64()? != FORMAT {
            return None;
        }
        let Value::Object(kernels) = file.remove("kernels")? else { return None };
        kernels.values().all(|v| v["kernel"].is_string()).then_some(kernels)
    }

    /// The kernel that was the fastest.
    pub fn get(&self, key: &str) -> Option<Kernel> {
        Kernel::parse(self.kernels.get(key)?["kernel"].as_str()?)
    }

    /// Adds the fastest kernel, which took so many seconds.
    pub fn put(&mut self, key: String, kernel: Kernel, seconds: f64) {
        self.kernels.insert(key, json!({"kernel": kernel.word(), "seconds": seconds}));
        self.changed = true;
    }

    /// Writes the file if something was added; what others wrote meanwhile stays.
    ///
    /// # Errors
    /// What the system says, naming the file.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        if !self.changed {
            return Ok(());
        }
        let mut kernels = Cache::read(path).0.kernels;
        kernels.extend(self.kernels.clone());
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        let text = serde_json::to_string_pretty(&json!({"format": FORMAT, "kernels": kernels}));
        let text = text.map_err(|e| e.to_string())? + "\n";
        io::replace(path, |to| to.write_all(text.as_bytes())).map_err(|e| e.to_string())
    }
}

/// The user's cache file by the rules of XDG, `None` where the environment names no folder.
pub fn default_path() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(cache.join("dorefac").join("kernels.json"))
}

/// The CPU as the system names it; empty where it does not say.
pub(super) fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|l| l.split(':').next().is_some_and(|k| k.trim() == name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    // Some machines name the model alike: family and number tell them apart.
    let names = ["model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part"];
    names.iter().filter_map(|n| field(n)).collect::<Vec<_>>().join(" ")
}
