"""What authors and reviewers of the content use: vignettes, mutations, terminology, LactMed."""
