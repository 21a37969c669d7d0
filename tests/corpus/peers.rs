//! The corpus through nginx and HAProxy too, for the table in BENCHMARKS.md.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;

use crate::case::{Case, Fault, Kind};
use crate::cases;
use crate::front::Program;
use crate::table::Table;
use crate::{judge, program, run};

/// How a proxy took the whole corpus.
#[derive(Default)]
struct Score {
    passed: usize,
    /// Cases by the worst that was wrong.
    failed: BTreeMap<Kind, Vec<&'static str>>,
}

#[tokio::test]
#[ignore = "needs nginx and HAProxy, and compares: `make corpus`"]
async fn beside_nginx_and_haproxy() {
    program::check(&["nginx", "haproxy"]).unwrap_or_else(|missing| panic!("{missing}"));
    let nginx = format!("nginx {}", program::version(&program::path("nginx"), "-v"));
    let haproxy = format!("HAProxy {}", program::version(&program::path("haproxy"), "-v"));
    let mut table =
        Table::new(["", "cases", "as demanded", "framing failures", "header failures", "lax", "refused though right"]);
    let programs = [("Roo".to_owned(), Program::Roo), (nginx, Program::Nginx), (haproxy, Program::Haproxy)];
    for (name, program) in programs {
        let score = score(program).await;
        let count = |kind| score.failed.get(&kind).map_or(0, Vec::len).to_string();
        table.row([
            name.clone(),
            cases::all().len().to_string(),
            score.passed.to_string(),
            count(Kind::Framing),
            count(Kind::Header),
            count(Kind::Lax),
            count(Kind::Lost),
        ]);
        for (kind, names) in &score.failed {
            println!("{name}, {kind:?}: {}", names.join(", "));
        }
    }
    println!("\n{table}");
}

/// Cases that are run side by side. Most of their time is waiting.
const AT_ONCE: usize = 24;

async fn score(program: Program) -> Score {
    let mut score = Score::default();
    let runs = cases::all().into_iter().map(|(name, case)| async move { (name, worst(program, &case()).await) });
    let mut runs = futures_util::stream::iter(runs).buffered(AT_ONCE);
    while let Some((name, worst)) = runs.next().await {
        match worst {
            None => score.passed += 1,
            Some(fault) => {
                println!("{program:?}: {name}: {fault}");
                score.failed.entry(fault.kind).or_default().push(name);
            }
        }
    }
    score
}

async fn worst(program: Program, case: &Case) -> Option<Fault> {
    let outcome = run::run(program, case).await.unwrap_or_else(|error| panic!("{program:?}: {error:#}"));
    judge::judge(case, &outcome).into_iter().min_by_key(|fault| fault.kind)
}
