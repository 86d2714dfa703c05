//! Where the Docker engine is, as the `docker` program finds it: `DOCKER_HOST`, a context, or a socket.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::pgserver::request::is_loopback;

/// The port of an engine without TLS, if its address names none.
const PORT: u16 = 2375;

/// The context that stands for no context.
const DEFAULT: &str = "default";

/// The address of an engine that docker-api can talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EngineAddress {
    /// `unix:///path` or `tcp://host:port`.
    pub(super) url: String,
    pub(super) source: AddressSource,
}

/// Where an address was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AddressSource {
    /// `DOCKER_HOST`.
    Variable,
    /// The Docker context of this name.
    Context(String),
    /// Nothing: it is the first socket that exists.
    Socket,
}

/// The environment variables and folders in which the search looks.
pub(super) struct UserEnvironment<'a> {
    /// Returns an environment variable.
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub(super) home: Option<PathBuf>,
    /// Where the sockets of the system are: `/`.
    pub(super) root: &'a Path,
}

impl EngineAddress {
    /// Finds the address of the engine in this process' environment.
    ///
    /// # Errors
    /// Why there is none that can be used, and what to do.
    pub(super) fn find() -> Result<EngineAddress, String> {
        let variable = |name: &str| std::env::var_os(name);
        let home = std::env::home_dir();
        UserEnvironment { variable: &variable, home, root: Path::new("/") }.address()
    }

    /// Returns the host of the engine if that is not this machine, as far as its name tells.
    pub(super) fn remote_host(&self) -> Option<&str> {
        let (host, _) = host_and_port(self.url.strip_prefix("tcp://")?)?;
        (!is_loopback(host)).then_some(host)
    }
}

impl AddressSource {
    /// Returns how to have another address used, as an imperative clause.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            AddressSource::Variable => "correct DOCKER_HOST",
            AddressSource::Context(_) => "choose another context with `docker context use`",
            AddressSource::Socket => "set DOCKER_HOST to its address",
        }
    }
}

impl fmt::Display for AddressSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressSource::Variable => f.write_str("DOCKER_HOST"),
            AddressSource::Context(name) => write!(f, "Docker context `{name}`"),
            AddressSource::Socket => f.write_str("no DOCKER_HOST and no Docker context"),
        }
    }
}

/// An endpoint as a context describes it.
struct ContextEndpoint {
    host: String,
    has_tls: bool,
}

impl UserEnvironment<'_> {
    pub(super) fn address(&self) -> Result<EngineAddress, String> {
        if let Some(host) = self.text("DOCKER_HOST") {
            let mut tls = ["DOCKER_TLS_VERIFY", "DOCKER_TLS"].into_iter();
            let tls = tls.find(|variable| self.text(variable).is_some());
            return usable(&host, tls, AddressSource::Variable);
        }
        match self.context()? {
            Some(name) => {
                let endpoint = self.endpoint_of(&name)?;
                let tls = endpoint.has_tls.then_some("the context");
                usable(&endpoint.host, tls, AddressSource::Context(name))
            }
            None => self.socket(),
        }
    }

    /// Returns a variable that is set to something.
    fn text(&self, variable: &str) -> Option<String> {
        let value = (self.variable)(variable)?;
        Some(value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
    }

    /// Returns the folder of the `docker` program's settings.
    fn settings(&self) -> Option<PathBuf> {
        let named = self.text("DOCKER_CONFIG").map(PathBuf::from);
        named.or_else(|| Some(self.home.as_ref()?.join(".docker")))
    }

    /// Returns the name of the context that is in use.
    fn context(&self) -> Result<Option<String>, String> {
        let named = match self.text("DOCKER_CONTEXT") {
            Some(name) => Some(name),
            None => self.current_context()?,
        };
        Ok(named.filter(|name| name != DEFAULT))
    }

    fn current_context(&self) -> Result<Option<String>, String> {
        let Some(settings) = self.settings() else { return Ok(None) };
        let config = json(&settings.join("config.json"))?;
        let name = config.as_ref().and_then(|config| config.get("currentContext")?.as_str());
        Ok(name.filter(|name| !name.is_empty()).map(str::to_owned))
    }

    /// Reads the endpoint of a context. Its folder is named after the SHA-256 of its name, which is in its file too.
    fn endpoint_of(&self, name: &str) -> Result<ContextEndpoint, String> {
        let missing = || {
            format!(
                "Docker context `{name}` does not exist; `docker context ls` lists them, and `docker context use default` \
                 goes back to the engine of this machine"
            )
        };
        let contexts = self.settings().ok_or_else(missing)?.join("contexts");
        let folders = fs::read_dir(contexts.join("meta")).into_iter().flatten().flatten();
        for folder in folders {
            // A broken file of another context is no reason to refuse this one.
            let Ok(Some(meta)) = json(&folder.path().join("meta.json")) else { continue };
            if meta.get("Name").and_then(Value::as_str) != Some(name) {
                continue;
            }
            let endpoint = meta.get("Endpoints").and_then(|endpoints| endpoints.get("docker"));
            let host = endpoint.and_then(|endpoint| endpoint.get("Host")?.as_str());
            let Some(host) = host.filter(|host| !host.is_empty()) else {
                return Err(format!(
                    "Docker context `{name}` names no Docker endpoint; choose another context with `docker context use`"
                ));
            };
            let skips = endpoint.and_then(|endpoint| endpoint.get("SkipTLSVerify")?.as_bool());
            let tls = contexts.join("tls").join(folder.file_name()).join("docker");
            let has_files =
                ["ca.pem", "cert.pem", "key.pem"].iter().any(|it| tls.join(it).exists());
            return Ok(ContextEndpoint {
                host: host.to_owned(),
                has_tls: has_files || skips.unwrap_or(false),
            });
        }
        Err(missing())
    }

    /// Finds the first socket that exists: of Docker, of Docker without root, of the programs that run Docker in a
    /// virtual machine, and of podman.
    fn socket(&self) -> Result<EngineAddress, String> {
        let runtime = self.text("XDG_RUNTIME_DIR").map(PathBuf::from);
        let in_runtime = |path: &str| runtime.as_ref().map(|folder| folder.join(path));
        let in_home = |path: &str| self.home.as_ref().map(|folder| folder.join(path));
        let sockets = [
            Some(self.root.join("var/run/docker.sock")),
            in_runtime("docker.sock"),
            in_home(".docker/run/docker.sock"),
            in_home(".docker/desktop/docker.sock"),
            in_home(".colima/default/docker.sock"),
            in_home(".orbstack/run/docker.sock"),
            in_home(".rd/docker.sock"),
            in_runtime("podman/podman.sock"),
            Some(self.root.join("run/podman/podman.sock")),
        ];
        match sockets.into_iter().flatten().find(|socket| socket.exists()) {
            Some(socket) => {
                Ok(EngineAddress { url: format!("unix://{}", socket.display()), source: AddressSource::Socket })
            }
            None => Err(
                "no Docker engine found: there is no context in use, and none of the sockets of Docker, Docker Desktop, \
                 colima, OrbStack, Rancher Desktop or podman exists; start one of them, or set DOCKER_HOST to its address"
                    .to_owned(),
            ),
        }
    }
}

/// Returns the address if docker-api can talk to it, which it does over a socket and over TCP without TLS. Its feature
/// for TLS needs OpenSSL, a library of the system, and is left out.
fn usable(host: &str, tls: Option<&str>, source: AddressSource) -> Result<EngineAddress, String> {
    let (scheme, rest) = host.split_once("://").unwrap_or(("tcp", host));
    let unusable = |reason: &str, remedy: &str| {
        let remedy = match source {
            AddressSource::Context(_) => {
                format!("{remedy}, or choose another context with `docker context use`")
            }
            _ => remedy.to_owned(),
        };
        format!("{source}: {host} is not supported: {reason}; {remedy}")
    };
    match scheme {
        "unix" if !rest.is_empty() => Ok(EngineAddress { url: host.to_owned(), source }),
        "https" => Err(unusable("wharf does not use TLS to talk to an engine", &tunnel("HOST"))),
        "tcp" | "http" => {
            let Some((name, port)) = host_and_port(rest) else {
                return Err(unusable("it names no host and port", "use tcp://host:port"));
            };
            if let Some(why) = tls {
                let reason =
                    format!("{why} asks for TLS, which wharf does not use to talk to an engine");
                return Err(unusable(&reason, &tunnel(name)));
            }
            let name = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
            Ok(EngineAddress { url: format!("tcp://{name}:{port}"), source })
        }
        "ssh" => {
            // `ssh` takes the rest as a URL only with its scheme, and a name without.
            let name = rest.split('/').next().unwrap_or(rest);
            let name = if name.contains(':') { format!("ssh://{name}") } else { name.to_owned() };
            Err(unusable("wharf does not start ssh", &tunnel(&name)))
        }
        "npipe" => Err(unusable(
            "wharf talks to an engine over a unix socket or TCP",
            "use unix:///path or tcp://host:port",
        )),
        _ => Err(unusable("its scheme is unknown", "use unix:///path or tcp://host:port")),
    }
}

/// How to reach the engine of another machine over ssh. Its server listens on that machine, so the file has to say
/// where.
fn tunnel(to: &str) -> String {
    format!(
        "forward its socket (`ssh -NL /tmp/docker.sock:/var/run/docker.sock {to}`), set DOCKER_HOST=unix:///tmp/docker.sock, \
         and set `pgserver.host` to that machine's IP address"
    )
}

/// Splits `host:port`, `host`, `[::1]:port` or one of these with a path.
fn host_and_port(authority: &str) -> Option<(&str, u16)> {
    let authority = authority.split('/').next()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok())?;
    // The engine may listen everywhere; it is asked on this machine then.
    match host {
        "" => Some(("127.0.0.1", port)),
        host => Some((host, port)),
    }
}

/// Reads a file of JSON; none if it does not exist.
fn json(path: &Path) -> Result<Option<Value>, String> {
    let unreadable = |error: &dyn fmt::Display| {
        format!(
            "cannot read {}, which names the Docker context in use: {error}; correct it, or set DOCKER_HOST",
            path.display()
        )
    };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with a user: files below a folder, and variables.
    struct Machine {
        dir: tempfile::TempDir,
        variables: Vec<(&'static str, String)>,
    }

    impl Machine {
        fn new(variables: &[(&'static str, &str)]) -> Machine {
            let dir = tempfile::tempdir().unwrap();
            let runtime = dir.path().join("runtime").display().to_string();
            let mut all = vec![("XDG_RUNTIME_DIR", runtime)];
            all.extend(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
            Machine { dir, variables: all }
        }

        fn has(&self, path: &str, text: &str) -> PathBuf {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }

        fn has_context(&self, settings: &str, name: &str, endpoint: &str) {
            let folder = format!("{settings}/contexts/meta/hash-of-{name}");
            let meta = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{endpoint}}}"#);
            self.has(&format!("{folder}/meta.json"), &meta);
        }

        fn uses(&self, name: &str) {
            self.has("home/.docker/config.json", &format!(r#"{{"currentContext":"{name}"}}"#));
        }

        fn address(&self) -> Result<EngineAddress, String> {
            let variable = |name: &str| {
                let mut all = self.variables.iter();
                all.find(|(is, _)| *is == name).map(|(_, value)| value.into())
            };
            let home = Some(self.dir.path().join("home"));
            UserEnvironment { variable: &variable, home, root: self.dir.path() }.address()
        }

        fn url(&self) -> String {
            self.address().unwrap().url
        }
    }

    const DOCKER: &str = "var/run/docker.sock";

    fn at(host: &str) -> String {
        format!(r#"{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}"#)
    }

    #[test]
    fn a_variable_comes_before_a_context_and_that_before_a_socket() {
        let both = [("DOCKER_HOST", "tcp://engine:1"), ("DOCKER_CONTEXT", "named")];
        for (variables, expected) in [
            (&both[..], "tcp://engine:1"),
            (&both[1..], "unix:///named.sock"),
            (&[("DOCKER_HOST", ""), ("DOCKER_CONTEXT", "")], "unix:///current.sock"),
            (&[("DOCKER_CONTEXT", "default")], ""),
        ] {
            let machine = Machine::new(variables);
            let socket = machine.has(DOCKER, "");
            machine.has_context("home/.docker", "named", &at("unix:///named.sock"));
            machine.has_context("home/.docker", "current", &at("unix:///current.sock"));
            machine.uses("current");
            let expected = match expected {
                "" => format!("unix://{}", socket.display()),
                expected => expected.to_owned(),
            };
            assert_eq!(machine.url(), expected, "{variables:?}");
        }
    }

    #[test]
    fn a_context_is_found_by_its_name_beside_broken_ones() {
        let machine = Machine::new(&[]);
        machine.has("home/.docker/contexts/meta/broken/meta.json", "{");
        machine.has_context("home/.docker", "colima", &at("unix:///colima.sock"));
        machine.uses("colima");
        let address = machine.address().unwrap();
        assert_eq!(address.url, "unix:///colima.sock");
        assert_eq!(address.source, AddressSource::Context("colima".to_owned()));
        for none in ["default", ""] {
            machine.uses(none);
            let socket = machine.has(DOCKER, "");
            assert_eq!(machine.url(), format!("unix://{}", socket.display()), "{none:?}");
        }
    }

    #[test]
    fn the_settings_may_be_elsewhere() {
        let mut machine = Machine::new(&[]);
        let settings = machine.dir.path().join("settings").display().to_string();
        machine.variables.push(("DOCKER_CONFIG", settings));
        machine.has("settings/config.json", r#"{"currentContext":"there"}"#);
        machine.has_context("settings", "there", &at("tcp://engine:2375"));
        machine.uses("absent");
        assert_eq!(machine.url(), "tcp://engine:2375");
    }

    #[test]
    fn a_context_that_cannot_be_used_is_told_with_what_to_do() {
        let machine = Machine::new(&[]);
        machine.has(DOCKER, "");
        machine.uses("absent");
        let error = machine.address().unwrap_err();
        assert!(error.contains("context `absent` does not exist"), "{error}");
        assert!(error.contains("docker context use default"), "{error}");
        machine.has_context("home/.docker", "k8s", r#"{"kubernetes":{"Host":"tcp://a:1"}}"#);
        machine.uses("k8s");
        let error = machine.address().unwrap_err();
        assert!(error.contains("context `k8s` names no Docker endpoint"), "{error}");
        machine.has("home/.docker/config.json", "{");
        let error = machine.address().unwrap_err();
        assert!(error.contains("home/.docker/config.json"), "{error}");
        assert!(error.contains("or set DOCKER_HOST"), "{error}");
    }

    #[test]
    fn tls_is_refused_by_what_asks_for_it() {
        let machine = Machine::new(&[]);
        machine.has_context("home/.docker", "files", &at("tcp://engine:2376"));
        machine.has("home/.docker/contexts/tls/hash-of-files/docker/ca.pem", "");
        let skips = r#"{"docker":{"Host":"tcp://engine:2376","SkipTLSVerify":true}}"#;
        machine.has_context("home/.docker", "skips", skips);
        for name in ["files", "skips"] {
            machine.uses(name);
            let error = machine.address().unwrap_err();
            for part in [
                &format!("Docker context `{name}`: tcp://engine:2376 is not supported"),
                "the context asks for TLS",
                "ssh -NL /tmp/docker.sock:/var/run/docker.sock engine",
                "docker context use",
            ] {
                assert!(error.contains(part), "no {part:?} in {error}");
            }
        }
        let host = ("DOCKER_HOST", "tcp://engine:2376");
        let error = Machine::new(&[host, ("DOCKER_TLS_VERIFY", "1")]).address().unwrap_err();
        assert!(error.contains("DOCKER_TLS_VERIFY asks for TLS"), "{error}");
        let error = Machine::new(&[("DOCKER_HOST", "https://engine:2376")]).address().unwrap_err();
        assert!(error.contains("does not use TLS"), "{error}");
        // As in the `docker` program, certificates alone do not ask for TLS, and a socket has none.
        let files = ("DOCKER_CERT_PATH", "/certs");
        assert_eq!(Machine::new(&[host, files]).url(), "tcp://engine:2376");
        let socket = ("DOCKER_HOST", "unix:///d.sock");
        assert_eq!(Machine::new(&[socket, ("DOCKER_TLS_VERIFY", "1")]).url(), "unix:///d.sock");
    }

    #[test]
    fn an_address_that_cannot_be_used_is_told_with_what_to_do() {
        for (host, parts) in [
            ("ssh://me@host", ["DOCKER_HOST: ssh://me@host is not supported", "sock me@host`"]),
            ("ssh://me@host:22/x", ["wharf does not start ssh", "sock ssh://me@host:22`"]),
            ("npipe:////./pipe/docker", ["unix socket or TCP", "use unix:///path"]),
            ("fd://3", ["scheme is unknown", "use unix:///path"]),
            ("tcp://host:x", ["no host and port", "use tcp://host:port"]),
        ] {
            let error = Machine::new(&[("DOCKER_HOST", host)]).address().unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{host}: {error}");
        }
    }

    #[test]
    fn the_first_socket_that_exists_is_taken() {
        let sockets = [
            DOCKER,
            "runtime/docker.sock",
            "home/.docker/run/docker.sock",
            "home/.docker/desktop/docker.sock",
            "home/.colima/default/docker.sock",
            "home/.orbstack/run/docker.sock",
            "home/.rd/docker.sock",
            "runtime/podman/podman.sock",
            "run/podman/podman.sock",
        ];
        let machine = Machine::new(&[]);
        let error = machine.address().unwrap_err();
        assert!(error.contains("no Docker engine found"), "{error}");
        for socket in sockets.iter().rev() {
            let path = machine.has(socket, "");
            assert_eq!(machine.url(), format!("unix://{}", path.display()));
        }
    }

    #[test]
    fn an_engine_on_another_machine_is_known_by_its_host() {
        for (host, url, remote) in [
            ("tcp://10.0.0.5:2375", "tcp://10.0.0.5:2375", Some("10.0.0.5")),
            ("tcp://docker", "tcp://docker:2375", Some("docker")),
            ("http://docker:80/", "tcp://docker:80", Some("docker")),
            ("docker:1", "tcp://docker:1", Some("docker")),
            ("tcp://[fd00::2]:1", "tcp://[fd00::2]:1", Some("fd00::2")),
            ("tcp://[::1]:1", "tcp://[::1]:1", None),
            ("tcp://localhost:1", "tcp://localhost:1", None),
            ("tcp://127.0.0.2:1", "tcp://127.0.0.2:1", None),
            ("tcp://:1", "tcp://127.0.0.1:1", None),
            ("unix:///d.sock", "unix:///d.sock", None),
        ] {
            let address = Machine::new(&[("DOCKER_HOST", host)]).address().unwrap();
            assert_eq!((address.url.as_str(), address.remote_host()), (url, remote), "{host}");
        }
    }
}
