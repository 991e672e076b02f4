use super::*;

const TEXT: &str = include_str!("../../../../../models/starter-scribe/recipe.toml");

fn load(text: &str) -> anyhow::Result<Recipe> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("recipe.toml");
    std::fs::write(&path, text)?;
    Recipe::load(&path)
}

#[test]
fn the_starters_recipe_is_good_and_reads_back() {
    let recipe = load(TEXT).unwrap();
    assert_eq!(load(&toml::to_string(&recipe).unwrap()).unwrap(), recipe);
    assert_eq!(recipe.shape.width % 256, 0, "rows of 4-bit files are multiples of 256");
    assert_eq!(recipe.shape.hidden % 256, 0);
}

#[test]
fn bad_recipes_are_refused_with_a_reason() {
    for (old, new, reason) in [
        ("steps = 1744", "steps = 0", "steps"),
        ("clip = 1.0", "clip = -1.0", "clip"),
        ("cool-down = 0.5", "cool-down = 1.5", "cool-down"),
        ("heads = 4", "heads = 3", "heads must divide"),
        ("width = 256", "wide = 256", "unknown field"),
    ] {
        assert!(TEXT.contains(old), "{old}");
        let error = format!("{:#}", load(&TEXT.replacen(old, new, 1)).unwrap_err());
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn the_rate_rises_stays_and_falls() {
    let recipe = load(TEXT).unwrap();
    assert!(recipe.rate(0.0) < 0.01);
    assert_eq!(recipe.rate(0.3), 1.0);
    assert!((recipe.rate(1.0 - recipe.cool_down / 2.0) - 0.5).abs() < 1e-9);
    assert!(recipe.rate(1.0) < 0.01);
}
