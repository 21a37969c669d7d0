//! All cases, by topic.

/// A test for each case, and all of them in a list.
macro_rules! cases {
    ($($name:ident: $case:expr;)*) => {
        pub const ALL: &[crate::cases::Named] = &[$((stringify!($name), || $case)),*];

        mod through_roo {
            $(
                #[tokio::test]
                async fn $name() {
                    let name = stringify!($name);
                    let (_, case) = super::ALL.iter().find(|(own, _)| *own == name).expect("it is listed");
                    crate::check(name, case()).await;
                }
            )*
        }
    };
}

mod chunked;
mod fields;
mod forwarding;
mod hop;
mod host;
mod http2;
mod length;
mod pipelining;
mod request_line;
mod response;
mod upgrade;

use std::collections::HashSet;

use crate::case::Case;

/// A case under its name.
pub type Named = (&'static str, fn() -> Case);

/// Every case there is.
pub fn all() -> Vec<Named> {
    [
        request_line::ALL,
        fields::ALL,
        length::ALL,
        chunked::ALL,
        host::ALL,
        hop::ALL,
        forwarding::ALL,
        upgrade::ALL,
        pipelining::ALL,
        response::ALL,
        http2::ALL,
    ]
    .concat()
}

#[test]
fn there_are_enough_cases_each_under_its_own_name() {
    let all = all();
    let names: HashSet<_> = all.iter().map(|(name, _)| *name).collect();
    println!("{} cases, {} of them known to fail", all.len(), crate::known::KNOWN.len());
    assert_eq!(names.len(), all.len(), "a name stands for two cases");
    assert!(all.len() >= 600, "{} cases", all.len());
    for (name, _) in crate::known::KNOWN {
        assert!(names.contains(name), "{name} is known to fail, but there is no such case");
    }
}
