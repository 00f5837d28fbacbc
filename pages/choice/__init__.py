"""What a person chose: state, link, controls, lesson."""
