"""The frame: page config, navigation, nothing else."""

from pages.choice import frame, presentation, state, teacher, tours

page = frame.navigation()
with state.errors_in_words():
    state.open_page(page.url_path)
    teacher.enter()
    presentation.begin()
    tours.bar()
    page.run()
