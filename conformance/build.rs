//! Writes the list of the recordings in `fixtures/`, so that the binary carries them with it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("fixtures");
    let mut files = Vec::new();
    collect(&root, "", &mut files)?;
    files.sort();

    let mut list = String::from("&[\n");
    for (name, path) in files {
        let _ = writeln!(list, "    ({name:?}, include_str!({path:?})),");
    }
    list.push_str("]\n");
    fs::write(
        PathBuf::from(variable("OUT_DIR")?).join("fixtures.rs"),
        list,
    )
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(io::Error::other)
}

/// The recordings below `folder`, named as seen from the root.
fn collect(folder: &Path, name: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    // A folder's time changes when a file in it comes or goes.
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let own = entry.file_name().into_string();
        let own =
            own.map_err(|_| io::Error::other(format!("{} is not Unicode", path.display())))?;
        if path.is_dir() {
            collect(&path, &format!("{name}{own}/"), files)?;
        } else if own.ends_with(".json") || own.ends_with(".jsonl") {
            files.push((format!("{name}{own}"), path));
        }
    }
    Ok(())
}
