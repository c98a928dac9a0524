"""UnlearnCanvas at icon size: text-to-image models forget an object or a style of a full grid."""
