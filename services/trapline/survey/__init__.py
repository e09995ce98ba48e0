"""survey: visits of a difference-imaging survey that never happened, through the real mesh, with the truth beside."""
