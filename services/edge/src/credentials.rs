//! Keys of stations: kept hashed in a file, checked without telling how far a guess was right.
//!
//! A key that a machine made has at least 128 bits that nobody can guess: a slow hash would protect nothing and would
//! cost minutes when thousands of stations come back at once, so one salted SHA-256 is kept. A key that a person chose
//! can be guessed, so argon2 is kept, and the second proof of the same key is answered from memory.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::PasswordHashString;
use argon2::{Argon2, PasswordVerifier};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::listing::{self, Stamp};

/// Slow hashes computed at a time: they are meant to be slow, and a storm of stations must not take every core.
const CHECKS: usize = 2;
/// Shortest key that the standard allows for basic authentication, OCPP 2.0.1 A00.FR.205.
const SHORTEST_KEY: usize = 16;
/// How a hash of a generated key begins.
const GENERATED: &str = "sha256:";
/// Shortest salt: two equal keys must not be seen to be equal.
const SHORTEST_SALT: usize = 16;

/// A file of credentials that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A line that is not `identity hash`.
    #[error(
        "{}:{line}: {met}, expected a charge point id, a space and sha256:SALT:DIGEST of a generated key or $argon2id$... of a chosen one",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line.
        line: usize,
        /// What is wrong; never the content.
        met: &'static str,
    },
}

/// The hash of a key as it is kept.
#[derive(PartialEq, Eq)]
enum Hash {
    /// SHA-256 of `SALT:IDENTITY:KEY`.
    Generated { salt: String, digest: [u8; 32] },
    /// Argon2 of the key.
    Chosen(PasswordHashString),
}

/// What is known of stations' keys. The file is read again when it changes, so that a key can be changed or withdrawn
/// without a restart.
pub(crate) struct Credentials {
    path: PathBuf,
    known: Mutex<Known>,
    checks: Semaphore,
    /// Secret of this process for remembering keys that were right.
    pepper: String,
}

#[derive(Default)]
struct Known {
    changed: Option<Stamp>,
    hashes: Hashes,
    /// Digests of chosen keys that were right, so that a storm of reconnecting stations costs microseconds each.
    proven: HashMap<String, [u8; 32]>,
}

/// Hashes by identity.
#[derive(Default)]
pub(crate) struct Hashes(HashMap<String, Arc<Hash>>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials of {}", self.path.display())
    }
}

/// The line of a credentials file for a station with a generated key, with a salt of its own. The key must come from a
/// generator of at least 128 bits: its hash is quick to compute, also for somebody who got hold of the file.
///
/// The hash is SHA-256, in hexadecimal, of the text `SALT:IDENTITY:KEY`, so that any tool can write the file.
#[must_use]
pub fn credentials_line(identity: &str, key: &str) -> String {
    let salt = uuid::Uuid::new_v4().simple().to_string();
    let digest = hex::encode(digest(&salt, identity, key.as_bytes()));
    format!("{identity} {GENERATED}{salt}:{digest}")
}

fn digest(salt: &str, identity: &str, key: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(salt)
        .chain_update(":")
        .chain_update(identity)
        .chain_update(":")
        .chain_update(key)
        .finalize()
        .into()
}

fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.ct_eq(right).into()
}

impl Credentials {
    /// Reads the file.
    ///
    /// # Errors
    /// [`CredentialsError`] naming the file and the line.
    pub(crate) fn open(path: &Path) -> Result<Self, CredentialsError> {
        let credentials = Self {
            path: path.to_owned(),
            known: Mutex::default(),
            checks: Semaphore::new(CHECKS),
            pepper: uuid::Uuid::new_v4().to_string(),
        };
        credentials.reload()?;
        Ok(credentials)
    }

    /// Reads the file again if it changed since. A chosen key whose hash is another now has to be proven again.
    ///
    /// # Errors
    /// [`CredentialsError`]; what was known stays.
    pub(crate) fn reload(&self) -> Result<(), CredentialsError> {
        let read = |source| CredentialsError::Read {
            path: self.path.clone(),
            source,
        };
        let read_before = self.lock().changed;
        let Some((stamp, text)) = listing::changed(&self.path, read_before).map_err(read)? else {
            return Ok(());
        };
        let hashes = parse(&self.path, &text)?;
        let mut known = self.lock();
        let mut proven = std::mem::take(&mut known.proven);
        proven.retain(|identity, _| hashes.0.get(identity) == known.hashes.0.get(identity));
        *known = Known {
            changed: Some(stamp),
            hashes,
            proven,
        };
        Ok(())
    }

    /// True if `key` is the one of that identity.
    pub(crate) async fn check(&self, identity: &str, key: &[u8]) -> bool {
        if key.len() < SHORTEST_KEY {
            return false;
        }
        let hash = {
            let known = self.lock();
            let Some(hash) = known.hashes.0.get(identity) else {
                return false;
            };
            if let Hash::Generated { salt, digest: kept } = &**hash {
                return same(kept, &digest(salt, identity, key));
            }
            let proven = known.proven.get(identity);
            if proven.is_some_and(|proven| same(proven, &digest(&self.pepper, identity, key))) {
                return true;
            }
            Arc::clone(hash)
        };
        let right = self.prove(Arc::clone(&hash), key.to_owned()).await;
        if right {
            let mut known = self.lock();
            // Not if it was withdrawn meanwhile.
            if known.hashes.0.get(identity) == Some(&hash) {
                let digest = digest(&self.pepper, identity, key);
                known.proven.insert(identity.to_owned(), digest);
            }
        }
        right
    }

    /// The slow way, off the threads that serve connections.
    async fn prove(&self, hash: Arc<Hash>, key: Vec<u8>) -> bool {
        let Ok(_permit) = self.checks.acquire().await else {
            return false;
        };
        let checking = tokio::task::spawn_blocking(move || match &*hash {
            Hash::Chosen(kept) => Argon2::default()
                .verify_password(&key, &kept.password_hash())
                .is_ok(),
            Hash::Generated { .. } => false,
        });
        checking.await.unwrap_or(false)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One station per line: its identity, a space, the hash.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Hashes, CredentialsError> {
    let mut hashes = HashMap::new();
    for (number, line) in listing::entries(text) {
        let refuse = |met| CredentialsError::Line {
            path: path.to_owned(),
            line: number,
            met,
        };
        let (identity, hash) = line
            .split_once(char::is_whitespace)
            .ok_or_else(|| refuse("one word"))?;
        let hash = hash.trim().parse().map_err(refuse)?;
        if hashes.insert(identity.to_owned(), Arc::new(hash)).is_some() {
            return Err(refuse("a charge point for the second time"));
        }
    }
    Ok(Hashes(hashes))
}

impl std::str::FromStr for Hash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let Some(generated) = text.strip_prefix(GENERATED) else {
            let hash = PasswordHashString::new(text).map_err(|_| "no hash")?;
            if !hash.algorithm().as_str().starts_with("argon2") {
                return Err("a hash of another kind");
            }
            return Ok(Self::Chosen(hash));
        };
        let (salt, digits) = generated.split_once(':').ok_or("no salt")?;
        if salt.len() < SHORTEST_SALT {
            return Err("a salt of fewer than 16 characters");
        }
        let mut digest = [0; 32];
        hex::decode_to_slice(digits, &mut digest)
            .map_err(|_| "no digest of 64 hexadecimal digits")?;
        Ok(Self::Generated {
            salt: salt.to_owned(),
            digest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::SaltString;
    use argon2::{Algorithm, Params, PasswordHasher, Version};
    use std::time::Duration;

    const KEY: &[u8] = b"a key of twenty-two by";

    fn chosen(key: &[u8]) -> String {
        let params = Params::new(64, 1, 1, None).unwrap();
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let salt = SaltString::encode_b64(b"0123456789abcdef").unwrap();
        let hash = argon.hash_password(key, &salt).unwrap();
        format!("ST1 {hash}")
    }

    fn generated(key: &[u8]) -> String {
        credentials_line("ST1", std::str::from_utf8(key).unwrap())
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_digest_is_the_one_that_any_tool_computes() {
        // printf %s '0123456789abcdef:ST1:a key of twenty-two by' | sha256sum
        let line = "sha256:0123456789abcdef:cf2fe924f204e4bc9a73fbe3f6e3d6b01ffe8fb271270eb539c9fd722c193aa1";
        let Hash::Generated { digest: kept, .. } = line.parse().unwrap_or_else(|e| panic!("{e}"))
        else {
            panic!("a generated key");
        };
        assert!(same(&kept, &digest("0123456789abcdef", "ST1", KEY)));
    }

    #[tokio::test]
    async fn only_the_right_key_of_the_right_station_passes_also_the_second_time() {
        for line in [chosen(KEY), generated(KEY)] {
            let kept = file(&format!("# depot\n\n{line}\n"));
            let credentials = Credentials::open(kept.path()).unwrap();
            for _ in 0..2 {
                assert!(credentials.check("ST1", KEY).await);
                assert!(!credentials.check("ST1", b"another key of 21 byt").await);
                assert!(!credentials.check("ST2", KEY).await);
                assert!(!credentials.check("ST1", b"short").await);
            }
        }
    }

    #[tokio::test]
    async fn a_line_that_is_moved_to_another_station_does_not_let_it_in() {
        let line = generated(KEY).replacen("ST1", "ST2", 1);
        let credentials = Credentials::open(file(&line).path()).unwrap();
        assert!(!credentials.check("ST2", KEY).await);
    }

    #[tokio::test]
    async fn a_key_that_was_withdrawn_is_refused_without_a_restart() {
        for line in [chosen, generated] {
            let kept = file(&line(KEY));
            let credentials = Credentials::open(kept.path()).unwrap();
            assert!(credentials.check("ST1", KEY).await);
            std::fs::write(kept.path(), line(b"the key that is new now")).unwrap();
            // A quick test writes twice within one tick.
            let written = std::fs::File::open(kept.path()).unwrap();
            let later = written.metadata().unwrap().modified().unwrap() + Duration::from_secs(5);
            written.set_modified(later).unwrap();
            credentials.reload().unwrap();
            assert!(!credentials.check("ST1", KEY).await);
            assert!(credentials.check("ST1", b"the key that is new now").await);
        }
    }

    #[test]
    fn what_is_no_hash_is_named_by_its_line_and_not_repeated() {
        for text in [
            "ok-line-missing",
            "ST1 plain-secret",
            "ST1 $2b$12$abcdefghijklmnopqrstuv",
            "ST1 sha256:0123456789abcdef:secret",
            "ST1 sha256:short:00",
            "ST1 sha256:secret",
        ] {
            let kept = file(&format!("# keys\n{text}\n"));
            let error = Credentials::open(kept.path()).unwrap_err().to_string();
            assert!(error.contains(":2: "), "{error}");
            assert!(
                !error.contains("secret") && !error.contains("2b$12"),
                "{error}"
            );
        }
        let twice = file(&format!("{0}\n{0}\n", generated(KEY)));
        let error = Credentials::open(twice.path()).unwrap_err().to_string();
        assert!(error.contains("second time"), "{error}");
    }
}
