//! The repository's own chores, run as `cargo xtask <chore>` (or `cargo run -p xtask -- <chore>`).

mod gen_protobuf;
mod gen_schema;
mod tidy;

use anyhow::{Result, bail};

const USAGE: &str = "usage: xtask <chore>

  tidy                        checks the hard edges between crates and the habits of the house
  gen-schema --openapi PATH   writes kube-schema's table from Kubernetes' OpenAPI v2 document
  gen-protobuf --staging PATH writes apiserver's field numbers from the Go types below PATH (api, apimachinery)";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => tidy::run(),
        ["gen-schema", "--openapi", path] => gen_schema::run(path.as_ref()),
        ["gen-protobuf", "--staging", path] => gen_protobuf::run(path.as_ref()),
        ["--help" | "-h" | "help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}
