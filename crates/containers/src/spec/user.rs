//! Who a container runs as: the pod's numbers over the image's `USER`, names and groups looked up in the container's
//! own `/etc/passwd` and `/etc/group`. Pure: works on the files' texts.

use crate::{error::Error, types::RunAs};

/// Numbers for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// The account that a container runs as.
pub(crate) fn resolve(image_user: &str, run_as: &RunAs, passwd: &str, group: &str) -> Result<ResolvedUser, Error> {
    let (image_name, image_group) = match image_user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (image_user, None),
    };
    let wanted = match run_as.user {
        Some(uid) => uid.to_string(),
        None if image_name.is_empty() => "0".to_owned(),
        None => image_name.to_owned(),
    };
    let by_name = accounts(passwd).find(|a| a.name == wanted);
    let number = wanted.parse::<u32>().ok();
    let account = by_name.or_else(|| number.and_then(|uid| accounts(passwd).find(|a| a.uid == uid)));
    let uid = match (&account, number) {
        (Some(account), _) => account.uid,
        (None, Some(uid)) => uid,
        (None, None) => {
            return Err(Error::Invalid(format!("unable to find user {wanted}: no matching entries in passwd file")));
        }
    };
    let gid = match (run_as.group, run_as.user, image_group) {
        (Some(gid), _, _) => gid,
        (None, None, Some(name)) if !name.is_empty() => group_number(name, group)?,
        _ => account.as_ref().map_or(0, |a| a.gid),
    };
    let mut groups: Vec<u32> = vec![gid];
    if let Some(account) = &account {
        groups.extend(memberships(account.name, group));
    }
    groups.extend(&run_as.supplemental_groups);
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|g| seen.insert(*g));
    let home = account.map_or("/", |a| if a.home.is_empty() { "/" } else { a.home }).to_owned();
    Ok(ResolvedUser { uid, gid, groups, home })
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let home = fields.nth(1).unwrap_or("");
        Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

/// Name, number and members of each group.
fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, gid.parse().ok()?, fields.next().unwrap_or("")))
    })
}

fn memberships<'a>(user: &'a str, text: &'a str) -> impl Iterator<Item = u32> + 'a {
    groups(text).filter(move |(_, _, members)| members.split(',').any(|m| m == user)).map(|(_, gid, _)| gid)
}

fn group_number(name: &str, text: &str) -> Result<u32, Error> {
    let named = groups(text).find(|(n, _, _)| *n == name).map(|(_, gid, _)| gid);
    named
        .or_else(|| name.parse().ok())
        .ok_or_else(|| Error::Invalid(format!("unable to find group {name}: no matching entries in group file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\nbroken\n7:x:9:9::/:\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlog:x:50:web,other\nbad:x:y:web\n";

    #[track_caller]
    fn check(image: &str, user: Option<u32>, group: Option<u32>, extra: &[u32], expected: Option<(u32, u32, &[u32])>) {
        let run_as = RunAs { user, group, supplemental_groups: extra.to_vec() };
        let got = resolve(image, &run_as, PASSWD, GROUP).ok().map(|u| (u.uid, u.gid, u.groups));
        assert_eq!(got, expected.map(|(uid, gid, groups)| (uid, gid, groups.to_vec())), "{image}");
    }

    #[test]
    fn users_and_groups() {
        check("", None, None, &[], Some((0, 0, &[0])));
        check("web", None, None, &[], Some((33, 34, &[34, 50])));
        check("web:log", None, None, &[7], Some((33, 50, &[50, 7])));
        check("33", None, None, &[], Some((33, 34, &[34, 50])));
        check("1000", None, None, &[5, 5], Some((1000, 0, &[0, 5])));
        check("1000:2000", None, None, &[], Some((1000, 2000, &[2000])));
        check("web:log", Some(1000), None, &[], Some((1000, 0, &[0])));
        check("web", Some(33), Some(99), &[], Some((33, 99, &[99, 50])));
        // A name of digits is looked up as a name first.
        check("7", None, None, &[], Some((9, 9, &[9])));
        check("nobody", None, None, &[], None);
        check("web:nogroup", None, None, &[], None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(passwd in "\\PC{0,80}", group in "\\PC{0,80}", user in "\\PC{0,10}") {
            let _ = resolve(&user, &RunAs::default(), &passwd, &group);
        }
    }
}
