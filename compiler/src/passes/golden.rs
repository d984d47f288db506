//! Golden tests of the passes: each file of `golden/` holds a graph in the native text format before and after one pass.
//! The environment variable `DOREFAC_BLESS=1` rewrites what comes after. Constants are drawn from the graph's seed.

use super::{Report, dead, fold, lift, pool, recognize, recover, residual, shortcut, threshold, transpose};
use crate::graph::{Graph, verify};
use crate::text;
use std::path::Path;

const AFTER: &str = "\n# after\n";

fn run(pass: &str, graph: &mut Graph) {
    let mut report = Report::default();
    let result = match pass {
        "dead" => dead::run(graph),
        "recognize" => recognize::run(graph),
        "fold" => fold::run(graph, true),
        "transpose" => transpose::run(graph),
        "lift" => {
            let hints = recover::hints(graph);
            fold::run(graph, true).and_then(|()| lift::run(graph, &hints, &mut report))
        }
        "pool" => pool::run(graph),
        "threshold" => threshold::run(graph, &mut report),
        "shortcut" => shortcut::run(graph, &mut report),
        "residual" => residual::run(graph, &mut report),
        other => panic!("no pass {other}"),
    };
    result.unwrap_or_else(|e| panic!("{pass}: {e}"));
    verify::verify(graph).unwrap_or_else(|e| panic!("{pass}: {e:?}"));
}

/// Files are called PASS or PASS-CASE.
#[test]
fn golden() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/passes/golden");
    let bless = std::env::var_os("DOREFAC_BLESS").is_some_and(|v| v == "1");
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("folder") {
        let path = entry.expect("entry").path();
        let stem = path.file_stem().and_then(|s| s.to_str()).expect("a name").to_owned();
        let pass = stem.split('-').next().unwrap_or(&stem);
        let file = std::fs::read_to_string(&path).expect("text");
        let (before, after) = file.split_once(AFTER).unwrap_or((&file, ""));
        let graph = text::parse(before, &stem, &|_| None);
        let mut graph = graph.unwrap_or_else(|p| panic!("{}", p.first().map(ToString::to_string).unwrap_or_default()));
        run(pass, &mut graph);
        let printed = text::print(&graph);
        if bless {
            std::fs::write(&path, format!("{before}{AFTER}{printed}")).expect("written");
        } else if printed != after {
            wrong.push(format!("{stem}: expected\n{after}\ngot\n{printed}"));
        }
    }
    assert!(wrong.is_empty(), "{}\nset DOREFAC_BLESS=1 to accept", wrong.join("\n"));
}
