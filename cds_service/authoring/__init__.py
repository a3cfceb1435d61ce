"""Tools for authors and reviewers of the content: vignettes, mutations, terminology, LactMed."""
