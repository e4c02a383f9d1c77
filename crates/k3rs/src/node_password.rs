//! The password by which this host proves that its node's name is its own, made once.

use std::io;
use std::path::Path;

/// The password at `path`; 128 new random bits if there is none.
pub(crate) fn ensure(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        Err(why) => return Err(why),
    }
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|why| io::Error::other(why.to_string()))?;
    let password: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    linux::files::write_atomic(path, format!("{password}\n").as_bytes(), 0o600)?;
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node/password");
        let made = ensure(&path).unwrap();
        assert_eq!(made.len(), 32);
        assert_eq!(ensure(&path).unwrap(), made);
        linux::files::write_atomic(&path, b"\n", 0o600).unwrap();
        assert_ne!(ensure(&path).unwrap(), made, "an empty file is no password");
    }
}
