//! Users and groups as ranges of numbers.

use std::{ffi::CString, mem::MaybeUninit, ptr};

use super::file::Id;

/// Which names to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    User,
    Group,
}

impl Whose {
    pub const fn noun(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

/// What is wrong, and what to write instead.
pub type Wrong = (String, &'static str);

/// Lowest and highest id meant. `u32::MAX` is nobody's.
pub fn range(id: &Id, whose: Whose) -> Result<[u32; 2], Wrong> {
    let noun = whose.noun();
    match id {
        Id::Number(number) => {
            let id = within(u64::try_from(*number).ok(), noun)?;
            Ok([id, id])
        }
        Id::Text(text) => match text.split_once('-') {
            Some((low, high)) if is_number(low) && is_number(high) => {
                let [low, high] = [low, high].map(|end| within(end.parse().ok(), noun));
                let (low, high) = (low?, high?);
                if low > high {
                    return Err((
                        format!("the range {text} is empty"),
                        "write the lower number first",
                    ));
                }
                Ok([low, high])
            }
            _ if is_number(text) => {
                let id = within(text.parse().ok(), noun)?;
                Ok([id, id])
            }
            _ => match named(text, whose) {
                Some(id) => Ok([id, id]),
                None => Err((
                    format!("there is no {noun} `{text}` here"),
                    "write a name that `getent` knows, a number or a range such as \"1000-1999\"",
                )),
            },
        },
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn within(number: Option<u64>, noun: &str) -> Result<u32, Wrong> {
    number
        .and_then(|number| u32::try_from(number).ok())
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| {
            (
                format!("this is no {noun} id"),
                "write a number from 0 to 4294967294",
            )
        })
}

/// Looks a name up as the host is set up to (nsswitch.conf).
fn named(name: &str, whose: Whose) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // Groups with many members need room for all their names.
    let mut room = vec![0; 1 << 20];
    match whose {
        Whose::User => {
            let mut entry = MaybeUninit::<libc::passwd>::uninit();
            let mut found = ptr::null_mut();
            // SAFETY: name is a C string, the entry and the buffer outlive the call, and the length
            // is that of the buffer.
            unsafe {
                libc::getpwnam_r(
                    name.as_ptr(),
                    entry.as_mut_ptr(),
                    room.as_mut_ptr(),
                    room.len(),
                    &raw mut found,
                );
            }
            // SAFETY: a result that is not NULL points to `entry`, which the call filled in.
            (!found.is_null()).then(|| unsafe { (*found).pw_uid })
        }
        Whose::Group => {
            let mut entry = MaybeUninit::<libc::group>::uninit();
            let mut found = ptr::null_mut();
            // SAFETY: as above.
            unsafe {
                libc::getgrnam_r(
                    name.as_ptr(),
                    entry.as_mut_ptr(),
                    room.as_mut_ptr(),
                    room.len(),
                    &raw mut found,
                );
            }
            // SAFETY: as above.
            (!found.is_null()).then(|| unsafe { (*found).gr_gid })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: &str) -> Result<[u32; 2], Wrong> {
        range(&Id::Text(id.to_owned()), Whose::User)
    }

    #[test]
    fn numbers_ranges_and_names() {
        assert_eq!(range(&Id::Number(1000), Whose::User), Ok([1000, 1000]));
        assert_eq!(of("1000"), Ok([1000, 1000]));
        assert_eq!(of("1000-1999"), Ok([1000, 1999]));
        assert_eq!(of("root"), Ok([0, 0]));
        assert_eq!(
            range(&Id::Text("root".to_owned()), Whose::Group),
            Ok([0, 0])
        );
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let refused = [
            range(&Id::Number(-1), Whose::User),
            range(&Id::Number(u32::MAX.into()), Whose::Group),
            of("1999-1000"),
            of("0-4294967295"),
            of("no-such-user"),
            of(""),
        ];
        let said: Vec<String> = refused
            .into_iter()
            .map(|refused| {
                let (what, instead) = refused.expect_err("refused");
                format!("{what}; {instead}")
            })
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r#"
        this is no user id; write a number from 0 to 4294967294
        this is no group id; write a number from 0 to 4294967294
        the range 1999-1000 is empty; write the lower number first
        this is no user id; write a number from 0 to 4294967294
        there is no user `no-such-user` here; write a name that `getent` knows, a number or a range such as "1000-1999"
        there is no user `` here; write a name that `getent` knows, a number or a range such as "1000-1999"
        "#);
    }
}
