//! The table of operators in the documentation is printed from the code's own: `DOREFAC_BLESS=1` writes it anew.

use dorefac::graph::ops::TABLE;
use dorefac_tests::repository;

fn table() -> String {
    let mut out = String::from(
        "# Operators of the graph\n\nPrinted from the operator table in `compiler/src/graph/ops`. `element-wise` operators run \
         on lanes in the chain behind another kernel.\n\n| operator | inputs | attributes | what it computes |\n|---|---|---|---|\n",
    );
    for op in TABLE {
        let attrs: Vec<_> = op.attrs.iter().map(|a| format!("`{}`", a.name)).collect();
        let (least, most) = op.inputs;
        let inputs = if least == most { least.to_string() } else { format!("{least}–{most}") };
        let kind = if op.elementwise { "element-wise: " } else { "" };
        let doc = op.doc.replace('|', "\\|");
        out.push_str(&format!("| `{}` | {inputs} | {} | {kind}{doc} |\n", op.name, attrs.join(", ")));
    }
    out
}

#[test]
fn the_documented_table_is_the_codes() {
    let file = repository().join("compiler/OPERATORS.md");
    let now = table();
    if std::env::var_os("DOREFAC_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&file, &now).expect("writes the table");
    }
    let stands = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(stands == now, "{} is not the code's table: run this test with DOREFAC_BLESS=1", file.display());
}
