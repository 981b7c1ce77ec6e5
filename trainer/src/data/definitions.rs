//! Finding a data set by its name.

use std::path::{Path, PathBuf};

use promptfield_core::experiment::dataset::{Catalogue, DatasetDefinition};
use promptfield_core::input::InvalidInput;

use super::DataError;

/// The definition of the data set `key`: one of the literature, else a user's own, a TOML file (named by the `name` inside,
/// not by its file name) in `datasets_dir` or in `<data_root>/datasets`.
pub fn find_definition(
    datasets_dir: Option<&Path>,
    data_root: &Path,
    key: &str,
) -> Result<DatasetDefinition, DataError> {
    let (catalogue, wrong) = all_definitions(datasets_dir, data_root);
    match catalogue.get(key) {
        Ok(definition) => Ok(definition.clone()),
        // A wrong file is only a problem for who asks for what it might have been.
        Err(unknown) => Err(wrong.into_iter().next().unwrap_or(DataError::Unknown(unknown))),
    }
}

/// Every definition that [`find_definition`] finds, and what is wrong with the files that aren't one.
pub fn all_definitions(datasets_dir: Option<&Path>, data_root: &Path) -> (Catalogue, Vec<DataError>) {
    let mut catalogue = Catalogue::built_in();
    let mut wrong = Vec::new();
    for path in definition_files(datasets_dir.into_iter().chain([data_root.join("datasets").as_path()])) {
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => {
                wrong.push(DataError::Read { path, source });
                continue;
            }
        };
        if let Err(source) = DatasetDefinition::parse(&text).and_then(|definition| add(&mut catalogue, definition)) {
            wrong.push(DataError::Definition { path, source });
        }
    }
    (catalogue, wrong)
}

/// Adds a definition, unless the same one is there already: the two folders may be one.
fn add(catalogue: &mut Catalogue, definition: DatasetDefinition) -> Result<(), InvalidInput> {
    match catalogue.get(&definition.key) {
        Ok(known) if *known == definition => Ok(()),
        _ => catalogue.add(definition),
    }
}

/// The `.toml` files of the folders, sorted within each; a folder that isn't there has none.
fn definition_files<'a>(folders: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in folders {
        let Ok(entries) = fs_err::read_dir(folder) else { continue };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        files.extend(paths);
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_names_own_files_and_unknown_names() {
        let root = tempfile::tempdir().unwrap();
        let (own, below_root) = (root.path().join("own"), root.path().join("datasets"));
        fs_err::create_dir_all(&own).unwrap();
        fs_err::create_dir_all(&below_root).unwrap();
        let definition = |name: &str| format!("name = \"{name}\"\nfolder = \"x\"\ntemplate = \"a {{}}.\"\n");
        fs_err::write(own.join("whatever.toml"), definition("icons")).unwrap();
        fs_err::write(below_root.join("a.toml"), definition("icons")).unwrap();
        fs_err::write(below_root.join("b.toml"), definition("birds")).unwrap();

        let find = |key: &str| find_definition(Some(&own), root.path(), key);
        assert_eq!(find("dtd").unwrap().label(), "DescribableTextures");
        assert_eq!(find("icons").unwrap().folder, "x");
        assert_eq!(find("birds").unwrap().template, "a {}.");
        assert_eq!(find_definition(None, root.path(), "birds").unwrap().key, "birds");
        let error = find("bird").unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("did you mean `birds`?"));

        fs_err::write(below_root.join("c.toml"), "name = \"cars\"\nfolder = \"/etc\"\ntemplate = \"{}\"\n").unwrap();
        assert!(find("birds").is_ok());
        let error = find("cars").unwrap_err();
        assert!(error.to_string().contains("c.toml"), "{error}");
        let (catalogue, wrong) = all_definitions(Some(&own), root.path());
        assert_eq!((catalogue.keys().count(), wrong.len()), (17, 1));
    }
}
