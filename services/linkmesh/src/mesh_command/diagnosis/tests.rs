//! Meshes that are broken in one way each.

use std::time::Duration;

use jiff::Timestamp;
use mesh::Identity;
use proto::mesh::v1::CertificateDiagnosis;
use proto::mesh::v1::Endpoint;
use proto::mesh::v1::GetDiagnosisResponse;
use proto::mesh::v1::ListEndpointsResponse;
use proto::mesh::v1::ListRoutesResponse;
use proto::mesh::v1::PolicyProblem;
use proto::mesh::v1::RegistryDiagnosis;
use proto::mesh::v1::RegistryMember;
use proto::mesh::v1::RootDiagnosis;
use proto::mesh::v1::ServiceRoutes;
use proto::mesh::v1::endpoint::State;
use proto::mesh::v1::get_diagnosis_response::Registration;

use super::Process;
use super::Report;
use super::Verdict;
use super::findings;

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Option<prost_types::Timestamp> {
    Some(rpc::time::to_proto(Timestamp::from_second(second).unwrap()))
}

fn root(fingerprint: &str) -> RootDiagnosis {
    RootDiagnosis {
        subject: "CN=root".to_owned(),
        fingerprint: fingerprint.to_owned(),
        not_after: at(NOW + 100_000_000),
    }
}

fn report(service: &str, number: u32) -> Report {
    let member = RegistryMember { address: "127.0.0.1:2379".to_owned(), ..Default::default() };
    let diagnosis = GetDiagnosisResponse {
        service: service.to_owned(),
        instance: format!("{service}-{number}"),
        version: "1.0.0".to_owned(),
        now: at(NOW),
        uptime: None,
        certificate: Some(CertificateDiagnosis {
            spiffe_id: format!("spiffe://linkmesh/service/{service}"),
            issuer: "CN=root".to_owned(),
            not_before: at(NOW - 3_600),
            not_after: at(NOW + 86_400),
            roots: vec![root("aa")],
        }),
        registry: Some(RegistryDiagnosis {
            uri: "etcd://127.0.0.1:2379".to_owned(),
            revision: 5,
            age: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            members: vec![member],
        }),
        registration: Registration::Serving.into(),
        policy_problems: Vec::new(),
    };
    Report {
        diagnosis,
        endpoints: ListEndpointsResponse::default(),
        routes: ListRoutesResponse::default(),
        asked_at: Timestamp::from_second(NOW).unwrap(),
        took: Duration::from_millis(5),
    }
}

fn process(report: Report) -> Process {
    Process {
        service: report.diagnosis.service.clone(),
        instance: report.diagnosis.instance.clone(),
        address: "127.0.0.1:7000".to_owned(),
        answer: Ok(Box::new(report)),
    }
}

/// What is found of a mesh of two, one of which was changed: everything that is not good.
fn complaints(change: impl FnOnce(&mut Report)) -> Vec<(Verdict, String)> {
    let mut changed = report("links", 2);
    change(&mut changed);
    of(&[process(report("links", 1)), process(changed)])
}

fn of(processes: &[Process]) -> Vec<(Verdict, String)> {
    let own = Identity::plaintext_for_bench("operator-of-a-test").unwrap();
    let findings = findings(processes, &own, Timestamp::from_second(NOW).unwrap());
    let complaints = findings.into_iter().filter(|finding| finding.verdict != Verdict::Good);
    complaints
        .map(|finding| {
            assert!(finding.next.is_some(), "what is wrong has a next step: {finding:?}");
            (finding.verdict, finding.text)
        })
        .collect()
}

#[test]
fn of_a_mesh_that_is_well_there_is_nothing_to_say() {
    assert_eq!(complaints(|_| {}), []);
}

#[test]
fn a_process_that_is_down_is_named_with_the_reason() {
    let mut dead = process(report("links", 2));
    dead.answer = Err("connecting to 127.0.0.1:7000: Connection refused".to_owned());
    let complaints = of(&[process(report("links", 1)), dead]);
    let text = "links-2 (127.0.0.1:7000) does not answer: connecting to 127.0.0.1:7000: Connection refused";
    assert_eq!(complaints, [(Verdict::Bad, text.to_owned())]);
}

#[test]
fn an_etcd_that_nobody_reaches_is_told_from_a_network_that_is_cut() {
    let away = |report: &mut Report| {
        let registry = report.diagnosis.registry.as_mut().unwrap();
        registry.members[0].problem = "connection refused".to_owned();
        registry.age = Some(prost_types::Duration { seconds: 42, nanos: 0 });
    };
    let one = complaints(away);
    let text = "etcd at 127.0.0.1:2379 does not answer links-2: connection refused";
    assert_eq!(one[0], (Verdict::Bad, text.to_owned()));
    assert_eq!(one[1].1, "links-2 last heard of the registry 42.0 s ago");

    let mut both = [report("links", 1), report("links", 2)];
    both.iter_mut().for_each(away);
    let both = of(&both.map(process));
    let text = "etcd at 127.0.0.1:2379 does not answer links-1, links-2: connection refused";
    assert_eq!(both[0].1, text);
}

#[test]
fn clocks_that_differ_are_named_and_how_far() {
    let ahead = complaints(|report| report.diagnosis.now = at(NOW + 3));
    assert_eq!(
        ahead,
        [(Verdict::Doubtful, "links-2's clock is 3.00 s ahead of this machine's".to_owned())]
    );
    let behind = complaints(|report| report.diagnosis.now = at(NOW - 60));
    assert_eq!(
        behind,
        [(Verdict::Bad, "links-2's clock is 60.0 s behind this machine's".to_owned())]
    );
    // An answer that took long says nothing about the clock.
    let slow = complaints(|report| {
        report.took = Duration::from_secs(4);
        report.diagnosis.now = at(NOW + 3);
    });
    assert_eq!(slow, []);
}

#[test]
fn certificates_that_run_out_or_were_not_renewed_are_named() {
    let certificate = |not_before, not_after| {
        complaints(move |report| {
            let certificate = report.diagnosis.certificate.as_mut().unwrap();
            (certificate.not_before, certificate.not_after) = (at(not_before), at(not_after));
        })
    };
    let expired = certificate(NOW - 86_400, NOW - 60);
    assert_eq!(expired, [(Verdict::Bad, "links-2's certificate ran out 1m0s ago".to_owned())]);
    let late = certificate(NOW - 86_000, NOW + 400);
    assert_eq!(late[0].1, "links-2's certificate runs out in 6m40s and was not renewed");
    assert_eq!(certificate(NOW + 60, NOW + 86_400)[0].0, Verdict::Bad);
    let other = complaints(|report| {
        report.diagnosis.certificate.as_mut().unwrap().spiffe_id =
            "spiffe://linkmesh/service/edge".to_owned();
    });
    assert_eq!(other[0].1, "links-2 proves to be spiffe://linkmesh/service/edge, not links");
    let plain = complaints(|report| report.diagnosis.certificate = None);
    assert_eq!(plain[0].0, Verdict::Bad);
}

#[test]
fn processes_without_a_root_in_common_are_told_from_a_rotation() {
    let roots = |roots: &'static [&'static str]| {
        complaints(move |report| {
            let certificate = report.diagnosis.certificate.as_mut().unwrap();
            certificate.roots = roots.iter().map(|it| root(it)).collect();
        })
    };
    assert_eq!(roots(&["aa", "bb"])[0].0, Verdict::Doubtful);
    assert_eq!(roots(&["bb"])[0].0, Verdict::Bad);
}

#[test]
fn versions_policies_and_registrations_that_differ_are_named() {
    let version = complaints(|report| report.diagnosis.version = "1.1.0".to_owned());
    assert_eq!(version[0].1, "several versions run: 1.0.0 on links-1; 1.1.0 on links-2");
    let drained = complaints(|report| report.diagnosis.set_registration(Registration::Drained));
    assert_eq!(drained[0].1, "links-2 was taken out of rotation");
    let pending = complaints(|report| report.diagnosis.set_registration(Registration::Pending));
    assert_eq!(pending[0].0, Verdict::Bad);
    let problem = complaints(|report| {
        report.diagnosis.policy_problems = vec![PolicyProblem {
            service: "links".to_owned(),
            problem: "routes[0].timeout: must be 1 ms to 1 h".to_owned(),
        }];
    });
    let text =
        "the policy of `links` is not applied by links-2: routes[0].timeout: must be 1 ms to 1 h";
    assert_eq!(problem, [(Verdict::Bad, text.to_owned())]);

    let with_revision = |number, revision| {
        let mut report = report("links", number);
        let service =
            ServiceRoutes { service: "identity".to_owned(), revision, ..Default::default() };
        report.routes.services = vec![service];
        process(report)
    };
    let apart = of(&[with_revision(1, 1), with_revision(2, 2)]);
    let text = "the policy of `identity` differs: revision 1 on links-1; revision 2 on links-2";
    assert_eq!(apart, [(Verdict::Doubtful, text.to_owned())]);
}

#[test]
fn an_instance_that_others_keep_away_from_is_named_with_them() {
    let complaints = complaints(|report| {
        report.endpoints.endpoints = vec![Endpoint {
            instance: "identity-1".to_owned(),
            state: State::Unhealthy.into(),
            ..Endpoint::default()
        }];
    });
    let text = "identity-1 is out of use after failures, as links-2 sees it";
    assert_eq!(complaints, [(Verdict::Doubtful, text.to_owned())]);
}
