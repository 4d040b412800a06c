//! v
#[test]
fn tracker() {
    let mut bad = 0;
    for dir in ["tracker", "tracker-rule"] {
        for file in
            std::fs::read_dir(format!("{}/fixtures/{dir}", env!("CARGO_MANIFEST_DIR"))).unwrap()
        {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            match conformance::vectors::tracker::replay(&text) {
                Ok(Ok(())) => {}
                other => {
                    bad += 1;
                    if bad < 6 {
                        println!("{path:?} {other:#?}");
                    }
                }
            }
        }
    }
    assert_eq!(bad, 0);
}
