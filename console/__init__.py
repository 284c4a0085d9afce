"""HTTP for programs and pages for people: every answer with the positions it stands for (`wallet console`)."""
