//! The flags of commands that ask a running member, and of those beside them. Pure.

use std::path::PathBuf;

use etcd_client::User;

/// Flags without a value.
const SWITCHES: [&str; 2] = ["skip-hash-check", "without-auth"];

/// Where running members are, and how to be let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    pub endpoints: Vec<String>,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub user: Option<User>,
}

impl Remote {
    /// What is asked of a running member.
    pub fn options(&self) -> etcd_client::Options {
        let mut options = etcd_client::Options::new(&self.endpoints);
        options.ca_file.clone_from(&self.ca_file);
        options.cert_file.clone_from(&self.cert_file);
        options.key_file.clone_from(&self.key_file);
        options
    }
}

pub fn list(urls: &str) -> Vec<String> {
    urls.split(',').map(|url| url.trim().to_owned()).collect()
}

/// Flags with their values, and the rest.
pub struct Flags {
    given: Vec<(String, String)>,
    pub rest: Vec<String>,
    usage: &'static str,
}

impl Flags {
    pub fn read(arguments: &[String], usage: &'static str) -> Result<Self, String> {
        let mut flags = Flags { given: Vec::new(), rest: Vec::new(), usage };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix('-').map(|name| name.strip_prefix('-').unwrap_or(name)) else {
                flags.rest.push(argument.clone());
                continue;
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None if matches!(name, "help" | "h") => return Err(usage.to_owned()),
                None if SWITCHES.contains(&name) => (name, Some("true".to_owned())),
                None => (name, arguments.next().cloned()),
            };
            let value = value.ok_or_else(|| flags.wrong(&format!("flag needs an argument: --{name}")))?;
            if flags.given.iter().any(|(given, _)| given == name) {
                return Err(flags.wrong(&format!("--{name} is given twice")));
            }
            flags.given.push((name.to_owned(), value));
        }
        Ok(flags)
    }

    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.given.iter().position(|(given, _)| given == name)?;
        Some(self.given.swap_remove(at).1)
    }

    pub fn switch(&mut self, name: &str) -> Result<bool, String> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(self.wrong(&format!("invalid boolean value {other:?} for --{name}"))),
        }
    }

    pub fn remote(&mut self) -> Result<Remote, String> {
        let (ca_file, cert_file, key_file) = (self.take("cacert"), self.take("cert"), self.take("key"));
        let user = match (self.take("user"), self.take("password")) {
            (None, None) => None,
            (Some(name), Some(password)) => Some(User { name, password }),
            (Some(both), None) => {
                let (name, password) = both.split_once(':').ok_or_else(|| self.wrong("--user takes NAME:PASSWORD"))?;
                Some(User { name: name.to_owned(), password: password.to_owned() })
            }
            (None, Some(_)) => return Err(self.wrong("--password goes with --user")),
        };
        let [ca_file, cert_file, key_file] = [ca_file, cert_file, key_file].map(|file| file.map(PathBuf::from));
        Ok(Remote { endpoints: Vec::new(), ca_file, cert_file, key_file, user })
    }

    /// All flags were taken, and so many arguments are left.
    pub fn end(&self, rest: usize) -> Result<(), String> {
        if let Some((name, _)) = self.given.first() {
            return Err(self.wrong(&format!("unknown flag: --{name}")));
        }
        match self.rest.len() == rest {
            true => Ok(()),
            false => Err(self.wrong(&format!("{} arguments where {rest} are expected", self.rest.len()))),
        }
    }

    pub fn wrong(&self, why: &str) -> String {
        format!("{why}\n{}", self.usage)
    }
}
