//! Password hashes: argon2id, on few threads, with few waiting for one.
//!
//! What must stay true: however many sign in at once, at most [`Passwords`]' own number of hashes is computed, each in
//! 19 MiB; and an account that does not exist costs as much as one that does.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::domain::Error;
use crate::store::Failure;

/// OWASP Password Storage Cheat Sheet, argon2id: 19 MiB, 2 iterations, 1 lane.
const MEMORY_KIB: u32 = 19 * 1024;
const ITERATIONS: u32 = 2;
const LANES: u32 = 1;
/// Bytes of a salt: RFC 9106, section 3.1, recommends 16.
const SALT_BYTES: usize = 16;
/// Passwords that wait for a thread, for each that has one; with some 20 ms a hash, the last waits for half a second.
const WAITING_FOR_EACH: usize = 25;

/// Makes and checks hashes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Passwords {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Of a password that nobody has: what is checked for an account that is not there.
    nobodys: Arc<str>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Passwords")
    }
}

impl Passwords {
    /// Computes at most `at_once` hashes at a time.
    pub(crate) fn new(at_once: usize) -> anyhow::Result<Self> {
        let mut random = Zeroizing::new([0; SALT_BYTES]);
        SysRng.try_fill_bytes(random.as_mut_slice()).map_err(entropy)?;
        Ok(Self {
            running: Arc::new(Semaphore::new(at_once)),
            waiting: Arc::new(Semaphore::new(at_once * (1 + WAITING_FOR_EACH))),
            nobodys: hash(random.as_slice())?.into(),
        })
    }

    /// The hash to keep of a password.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, Failure> {
        let password = Zeroizing::new(password.as_bytes().to_vec());
        let hashed = self.run(move || hash(&password)).await?;
        hashed.map_err(|error| Failure::Sealed(error.to_string()))
    }

    /// Whether a password is the one of a hash. Without one it takes as long, and it is not.
    pub(crate) async fn verify(&self, password: &str, kept: Option<&str>) -> Result<bool, Failure> {
        let password = Zeroizing::new(password.as_bytes().to_vec());
        let is_kept = kept.is_some();
        let kept: Arc<str> = kept.map_or_else(|| self.nobodys.clone(), Arc::from);
        let verified = self.run(move || {
            let parsed = PasswordHash::new(&kept).map_err(|error| error.to_string())?;
            Ok::<_, String>(argon2().verify_password(&password, &parsed).is_ok())
        });
        let is_right = verified.await?.map_err(Failure::Sealed)?;
        Ok(is_right && is_kept)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let overloaded = || Failure::from(Error::PasswordsOverloaded);
        let waiting = self.waiting.clone().try_acquire_owned().map_err(|_| overloaded())?;
        let running = self.running.clone().acquire_owned().await.map_err(|_| overloaded())?;
        // The permits go with the work: a caller that gives up does not make room for what still runs.
        let working = tokio::task::spawn_blocking(move || {
            let _permits = (waiting, running);
            work()
        });
        working.await.map_err(|error| Failure::Sealed(error.to_string()))
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, ITERATIONS, LANES, None);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.expect("constants within its limits"))
}

fn hash(password: &[u8]) -> anyhow::Result<String> {
    let mut salt = [0; SALT_BYTES];
    SysRng.try_fill_bytes(&mut salt).map_err(entropy)?;
    let hashed: PasswordHash = argon2()
        .hash_password_with_salt(password, &salt)
        .map_err(|error| anyhow::anyhow!("argon2: {error}"))?;
    Ok(hashed.to_string())
}

fn entropy(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("the operating system gave no random bytes: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::pin::Pin;
    use std::task::{Context, Waker};

    fn is_waiting<T>(future: Pin<&mut impl Future<Output = T>>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn a_password_is_right_for_its_own_hash_alone() {
        let passwords = Passwords::new(2).unwrap();
        let kept = passwords.hash("correct horse battery").await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(passwords.verify("correct horse battery", Some(&kept)).await.unwrap());
        assert!(!passwords.verify("correct horse batterY", Some(&kept)).await.unwrap());
        assert!(!passwords.verify("correct horse battery", None).await.unwrap());
        assert_ne!(passwords.hash("correct horse battery").await.unwrap(), kept);
        assert!(matches!(passwords.verify("x", Some("no hash")).await, Err(Failure::Sealed(_))));
    }

    #[tokio::test]
    async fn more_than_may_wait_are_refused_and_nothing_is_computed_for_them() {
        let passwords = Passwords::new(1).unwrap();
        let _running = passwords.running.clone().acquire_owned().await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..=WAITING_FOR_EACH {
            let mut one = Box::pin(passwords.verify("x", None));
            assert!(is_waiting(one.as_mut()));
            waiting.push(one);
        }
        let refused = passwords.verify("x", None).await;
        assert!(matches!(refused, Err(Failure::Domain(Error::PasswordsOverloaded))), "{refused:?}");
        waiting.pop();
        let mut one = Box::pin(passwords.verify("x", None));
        assert!(is_waiting(one.as_mut()), "one that gave up made room");
    }
}
