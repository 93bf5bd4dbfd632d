//! Secrets and certificates: read at the start, and again whenever their files change.

use crate::config::Config;
use crate::error::Error;
use crate::tls::{ClientTls, TowardsClients, TowardsServers, UpstreamTls};
use crate::upstream::{Access, Credentials};
use crate::users::ClientUsers;
use common::shutdown::Shutdown;
use common::watch::Watch;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How servers, Sentinels and clients are met.
pub(crate) struct Reach {
    pub(crate) servers: Arc<Access>,
    pub(crate) sentinels: Arc<Access>,
    pub(crate) clients: Option<Arc<TowardsClients>>,
    pub(crate) users: Option<Arc<ClientUsers>>,
}

/// How long until a changed file is noticed where the system sends no notifications.
const POLL: Duration = Duration::from_secs(5);

impl Reach {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// One of them is not usable.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let tls = |settings: &Option<UpstreamTls>| settings.as_ref().map(TowardsServers::load).transpose();
        let upstream =
            credentials(config.upstream_user.as_deref(), config.upstream_password_file.as_deref())?;
        let sentinel =
            credentials(config.sentinel_user.as_deref(), config.sentinel_password_file.as_deref())?;
        let users = config.client_users_file.as_deref().map(ClientUsers::read).transpose()?;
        Ok(Self {
            servers: Access::new(upstream, tls(&config.upstream_tls)?),
            sentinels: Access::new(sentinel, tls(&config.sentinel_tls)?),
            clients: config.client_tls.as_ref().map(TowardsClients::load).transpose()?,
            users: users.map(Arc::new),
        })
    }

    /// Reads files again when they change; what is wrong then is logged, and what was read before stays.
    pub(crate) fn follow_files(&self, config: &Config, shutdown: &Shutdown) {
        for (access, tls, user, password) in [
            (&self.servers, &config.upstream_tls, &config.upstream_user, &config.upstream_password_file),
            (&self.sentinels, &config.sentinel_tls, &config.sentinel_user, &config.sentinel_password_file),
        ] {
            if let Some(path) = password.clone() {
                let (access, user) = (Arc::clone(access), user.clone());
                follow(shutdown, vec![path.clone()], move || {
                    let fresh = credentials(user.as_deref(), Some(&path))?;
                    access.set_credentials(fresh);
                    Ok(())
                });
            }
            if let (Some(settings), Some(tls)) = (tls, access.tls()) {
                let tls = Arc::clone(tls);
                follow(shutdown, settings.files(), move || Ok(tls.reload()?));
            }
        }
        if let (Some(tls), Some(settings)) = (self.clients.clone(), &config.client_tls) {
            follow(shutdown, ClientTls::files(settings), move || Ok(tls.reload()?));
        }
        if let (Some(users), Some(path)) = (self.users.clone(), config.client_users_file.clone()) {
            follow(shutdown, vec![path.clone()], move || Ok(users.reload(&path)?));
        }
    }
}

fn follow(
    shutdown: &Shutdown,
    files: Vec<PathBuf>,
    mut reload: impl FnMut() -> Result<(), Error> + Send + 'static,
) {
    if files.is_empty() {
        return;
    }
    let stop = shutdown.clone();
    shutdown.spawn(async move {
        let shown = files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let mut watch = Watch::new(files, POLL);
        loop {
            tokio::select! {
                () = watch.changed() => {}
                () = stop.triggered() => return,
            }
            match reload() {
                Ok(()) => tracing::info!(files = shown, "files read again, for new connections"),
                Err(error) => {
                    let error = common::error::chain(&error);
                    tracing::error!(files = shown, error, "files not usable; what was read before stays");
                }
            }
        }
    });
}

fn credentials(user: Option<&str>, path: Option<&Path>) -> Result<Option<Credentials>, Error> {
    let Some(path) = path else { return Ok(None) };
    let password = common::secret::read(path).map_err(Error::Secret)?;
    Ok(Some(Credentials { user: user.unwrap_or_default().to_owned(), password }))
}
