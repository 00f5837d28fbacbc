"""The report to hand in: `content` asks the workbench and writes it, `document` makes HTML, Markdown and DOCX of it."""
